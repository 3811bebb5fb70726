"""Moodle at either end, what was heard of each course from whom, and how each run ended."""

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sources", sa.Column("sealed_site_token", sa.Text(), nullable=True))
    for name, kind in (
        ("proven_token_id", sa.String(length=64)),
        ("proven_at", sa.DateTime(timezone=True)),
        ("gradebook_course", sa.String(length=20)),
        ("gradebook_activity", sa.String(length=20)),
    ):
        op.add_column("entries", sa.Column(name, kind, nullable=True))
    op.create_table(
        "heard",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("teller", sa.String(length=20), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("what", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_heard")),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_heard_entry_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_heard_entry_id"), "heard", ["entry_id"])
    op.add_column("runs", sa.Column("seconds", sa.Float(), nullable=True))
    op.add_column(
        "runs", sa.Column("partial", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("runs", sa.Column("stopped", sa.Text(), nullable=True))
