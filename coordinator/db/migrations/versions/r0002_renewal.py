"""Certificates issued in a renewal and not used yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "renewal",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("index", sa.Integer(), sa.ForeignKey("member.index"), nullable=False),
        sa.Column("tls_fingerprint", sa.String(95), nullable=False, unique=True),
        sa.Column("identity_fingerprint", sa.String(95), nullable=False),
        sa.Column("tls_certificate", sa.String(), nullable=False),
        sa.Column("identity_certificate", sa.String(), nullable=False),
        sa.Column("issued_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_renewal_index", "renewal", ["index"])
