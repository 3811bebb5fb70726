"""What was settled when, and what each endpoint answered its last test."""

import sqlalchemy as sa
from alembic import op

revision = "n0006"
down_revision = "n0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of those that are settled only: what is open costs it nothing.
    settled = sa.text("settled_at IS NOT NULL")
    op.create_index(
        op.f("ix_deliveries_status_settled_at"),
        "deliveries",
        ["status", "settled_at"],
        sqlite_where=settled,
        postgresql_where=settled,
    )
    op.create_table(
        "pings",
        sa.Column("endpoint_id", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("failure", sa.String(length=40), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_pings_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", name=op.f("pk_pings")),
    )
