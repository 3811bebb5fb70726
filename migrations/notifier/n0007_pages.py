"""What the pages find deliveries and courses by, however many there are."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "n0007"
down_revision = "n0006"
branch_labels = None
depends_on = None

_AT_ONCE = 1000


def upgrade() -> None:
    op.create_index(
        op.f("ix_deliveries_endpoint_id_status_created_at_id"),
        "deliveries",
        ["endpoint_id", "status", "created_at", "id"],
    )
    op.create_index(op.f("ix_events_type_occurred_at"), "events", ["type", "occurred_at"])
    # Nobody looks for those without a lease: without them, settling has one index less to keep.
    op.drop_index(op.f("ix_deliveries_leased_until"), "deliveries")
    _create("ix_deliveries_leased_until", "deliveries", "leased_until", "leased_until IS NOT NULL")
    in_bytes = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("courses", sa.Column("search_key", in_bytes, nullable=True))
    _fill_search_keys()
    op.create_index(op.f("ix_courses_search_key_id"), "courses", ["search_key", "id"])
    _create("ix_courses_deleted", "courses", "course_id", "deleted_at IS NOT NULL")
    _create("ix_courses_present", "courses", "course_id", "deleted_at IS NULL")


def _create(name: str, table: str, column: str, condition: str) -> None:
    """Create an index of those rows only that meet the condition."""
    where = sa.text(condition)
    op.create_index(op.f(name), table, [column], sqlite_where=where, postgresql_where=where)


def _fill_search_keys() -> None:
    courses = sa.table(
        "courses", *(sa.column(name) for name in ("id", "course_id", "title", "search_key"))
    )
    number: sa.BindParameter[int] = sa.bindparam("number")
    change = sa.update(courses).where(courses.c.id == number).values(search_key=sa.bindparam("key"))
    connection = op.get_bind()
    last = 0
    while rows := connection.execute(
        sa.select(courses.c.id, courses.c.course_id, courses.c.title)
        .where(courses.c.id > last)
        .order_by(courses.c.id)
        .limit(_AT_ONCE)
    ).all():
        last = rows[-1].id
        connection.execute(
            change,
            [{"number": row.id, "key": _key(f"{row.course_id} {row.title}")} for row in rows],
        )


def _key(text: str) -> str:
    """Return a text as searches compared it when this was written: without accents and case."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text[:600]).casefold())
    bare = "".join(one for one in plain if not unicodedata.combining(one))
    return " ".join(bare.split())[:600]
