"""What is known of each endpoint's health, and which places a delivery may take."""

import sqlalchemy as sa
from alembic import op

revision = "n0002"
down_revision = "n0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "endpoints",
        sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )
    for moment in ("failing_since", "failed_at", "paused_until"):
        op.add_column("endpoints", sa.Column(moment, sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "deliveries",
        sa.Column("lane", sa.String(length=8), nullable=False, server_default="first"),
    )
    op.execute("UPDATE deliveries SET lane = 'again' WHERE attempts > 0")
    op.drop_index(op.f("ix_deliveries_endpoint_id_status_due_at"), "deliveries")
    op.create_index(
        op.f("ix_deliveries_endpoint_id_status_lane_due_at"),
        "deliveries",
        ["endpoint_id", "status", "lane", "due_at"],
    )
    op.create_index(op.f("ix_deliveries_leased_until"), "deliveries", ["leased_until"])
