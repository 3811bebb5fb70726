"""When a course's grades changed last, and which events of a Moodle were taken."""

import sqlalchemy as sa
from alembic import op

revision = "n0003"
down_revision = "n0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "courses", sa.Column("grades_changed_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_table(
        "ingested",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("event_name", sa.String(length=255), nullable=False),
        sa.Column("object_id", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "host", "event_name", "object_id", "time_created", name=op.f("pk_ingested")
        ),
    )
