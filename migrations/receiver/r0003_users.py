"""Users who sign in to the pages, their failed attempts, and the sessions that were ended."""

from migrations.users import create

revision = "r0003"
down_revision = "r0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create()
