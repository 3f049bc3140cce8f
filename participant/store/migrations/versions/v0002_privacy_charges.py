"""The privacy ledger by mechanism: what composes tightly is the noise, not its epsilon.

A row is one masked vector's use of the records. Retries and burnt rounds are vectors of their own,
so the slot, not the round, tells charges apart.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the ledger; until now nothing but evaluation noise could be in it."""
    op.create_table(
        "privacy_charge",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False, index=True),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("slot", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("mechanism", sa.String, nullable=False),
        sa.Column("amount", sa.Float, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("run_id", "slot", "kind"),
        sa.CheckConstraint("mechanism in ('gaussian', 'laplace', 'none') and amount >= 0"),
    )
    op.execute(
        "insert into privacy_charge (run_id, round, slot, kind, mechanism, amount, at) "
        "select run_id, round, 'round ' || round, kind, 'laplace', epsilon, at "
        "from privacy_ledger order by id"
    )
    op.drop_table("privacy_ledger")
    for verb in ("update", "delete"):
        op.execute(
            f"create trigger privacy_charge_no_{verb} before {verb} on privacy_charge "
            "begin select raise(abort, 'privacy_charge is append-only'); end"
        )
