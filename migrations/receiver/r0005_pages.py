"""What pages search and filter by has an index, and a run tells what it stored."""

import sqlalchemy as sa
from alembic import op

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None

_ENROLLED = "enrolled_at IS NOT NULL"
_DELETED = "deleted_version IS NOT NULL AND deleted_at IS NOT NULL"
_NAMED = "announced_version IS NOT NULL AND announced_at IS NOT NULL"
_PROVEN_SINCE = (
    "held_token_id IS NOT NULL AND proven_token_id IS NOT NULL AND proven_at IS NOT NULL "
    "AND proven_token_id = held_token_id AND proven_at > {at}"
)
_REPLACED = (
    f"{_NAMED} AND (held_token_id IS NULL OR announced_token_id != held_token_id) "
    f"AND NOT ({_PROVEN_SINCE.format(at='announced_at')})"
)
_REFUSED = (
    "held_token_id IS NOT NULL AND refused_token_id IS NOT NULL AND refused_at IS NOT NULL "
    "AND refused_token_id = held_token_id "
    f"AND NOT ({_NAMED} AND announced_token_id = refused_token_id AND announced_at > refused_at) "
    f"AND NOT ({_PROVEN_SINCE.format(at='refused_at')})"
)
_INVALID = f"{_REPLACED} OR {_REFUSED}"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("entries", "course_id", type_=sa.String(length=255, collation="C"))
    for name, condition in (
        ("active", f"{_ENROLLED} AND NOT ({_DELETED}) AND NOT ({_INVALID})"),
        ("token_invalid", f"{_ENROLLED} AND NOT ({_DELETED}) AND ({_INVALID})"),
        ("course_deleted", f"{_ENROLLED} AND {_DELETED}"),
    ):
        which = sa.text(condition)
        op.create_index(
            f"ix_entries_{name}",
            "entries",
            ["course_id", "source_id"],
            sqlite_where=which,
            postgresql_where=which,
        )
    _index("entries", ["course_id", "source_id", "enrolled_at"])
    for first in ([], ["outcome"], ["course_id"]):
        _index("inbox", [*first, "received_at", "source_id", "webhook_id"])
    _index("inbox", ["source_id", "received_at", "webhook_id"])
    _index("run_courses", ["run_id", "outcome", "source", "id"])
    _index("run_courses", ["course_id", "source", "id"])
    op.drop_index(op.f("ix_run_courses_run_id"), "run_courses")
    for name in ("scores_new", "scores_changed", "scores_as_before"):
        op.add_column("runs", sa.Column(name, sa.Integer(), nullable=True))


def _index(table: str, columns: list[str]) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns)
