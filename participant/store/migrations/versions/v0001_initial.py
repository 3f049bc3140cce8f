"""The first schema: catalogue, imports, audit, ledger, deployments, consents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table of the first version."""
    op.create_table(
        "deployment",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("release_id", sa.String, nullable=False, index=True),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.CheckConstraint("action in ('activate', 'keep', 'rollback')"),
    )
    op.create_table(
        "privacy_ledger",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False, index=True),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("epsilon", sa.Float, nullable=False),
        sa.Column("delta", sa.Float, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("run_id", "round", "kind"),
        sa.CheckConstraint("epsilon >= 0 and delta >= 0 and delta <= 1"),
    )
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False, index=True),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("prev_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False, unique=True),
    )
    op.create_table(
        "import_file",
        sa.Column("sha256", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("mapping_sha256", sa.String, primary_key=True),
        sa.Column("rows_kept", sa.Integer, nullable=False),
        sa.Column("rows_rejected", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "segment",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("replaced", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
    )
    op.create_table(
        "run_consent",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("decision", sa.String, nullable=False),
        sa.Column("reason_code", sa.String, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    _forbid_changes("audit_event")
    _forbid_changes("privacy_ledger")


def _forbid_changes(table: str) -> None:
    """Append-only in the database too: a slip in code must not rewrite history."""
    for verb in ("update", "delete"):
        op.execute(
            f"create trigger {table}_no_{verb} before {verb} on {table} "
            f"begin select raise(abort, '{table} is append-only'); end"
        )
