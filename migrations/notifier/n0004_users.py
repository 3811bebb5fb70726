"""Users who sign in to the pages, their failed attempts, and the sessions that were ended."""

from migrations.users import create

revision = "n0004"
down_revision = "n0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create()
