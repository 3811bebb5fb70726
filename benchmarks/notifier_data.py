"""Fill a database of eAssessment with any number of courses and deliveries."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from contract.tokens import CourseToken
from foundation.db.session import Database
from notifier.courses import search
from notifier.models import (
    SCHEMA,
    Attempt,
    Base,
    Course,
    Delivery,
    Endpoint,
    EndpointSecret,
    Event,
    IssuedToken,
)

BEGAN = datetime(2026, 1, 1, 8, 0, tzinfo=UTC)
# The time between two events.
BETWEEN = timedelta(seconds=40)
_SUBJECTS = ("Programming", "Música", "Linear Algebra", "Organic Chemistry", "Public Law")
_URLS = ("https://elms.example.ac.uk/webhooks/eassessment", "https://old.example.ac.uk/webhooks/e")
_RARE = 25


def fill(database: Database, *, courses: int, deliveries: int) -> None:
    """Fill an empty, migrated database: two endpoints, the second of them disabled.

    Of the deliveries to the first, some are dead and the latest pending; of those to the second,
    the latest are held. All others are delivered, each with its attempt.
    """
    events = deliveries // len(_URLS)
    write_rows(
        database,
        (
            (Endpoint, _endpoints(events)),
            (EndpointSecret, _secrets()),
            (Course, _courses(courses, events)),
            (IssuedToken, _tokens(courses)),
            (Event, _events(courses, events)),
            (Delivery, _deliveries(events)),
            (Attempt, _attempts(events)),
        ),
    )


def write_rows(
    database: Database, tables: Sequence[tuple[type[Base], Iterator[dict[str, Any]]]]
) -> None:
    """Write rows of any number fast: with COPY on PostgreSQL, with one statement on SQLite."""
    with database.without_time_limit(), closing(database.engine.raw_connection()) as connection:
        _write(connection, database.is_sqlite, tables)


def _write(
    connection: Any,
    is_sqlite: bool,
    tables: Sequence[tuple[type[Base], Iterator[dict[str, Any]]]],
) -> None:
    cursor = connection.cursor()
    if is_sqlite:
        # With its cache of 2 MB it would write the pages of the indexes of ids again and again.
        cursor.execute("PRAGMA cache_size = -4000000")
    cursor.execute("BEGIN")
    write = _insert if is_sqlite else _copy
    for table, rows in tables:
        write(cursor, table.__tablename__, rows)
    if not is_sqlite:
        for name in ("endpoints", "endpoint_secrets", "courses", "deliveries"):
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"
            )
    connection.commit()
    if not is_sqlite:
        cursor.execute("ANALYZE")
        connection.commit()


def migrated(url: str) -> Database:
    """Return a migrated database of eAssessment."""
    database = Database(url)
    SCHEMA.upgrade(database)
    return database


def _insert(cursor: Any, table: str, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    marks = ", ".join("?" * len(first))
    statement = f"INSERT INTO {table} ({', '.join(first)}) VALUES ({marks})"
    every = chain([first], rows)
    cursor.executemany(statement, ([_for_sqlite(value) for value in one.values()] for one in every))


def _for_sqlite(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=None).isoformat(" ", "microseconds")


def _copy(cursor: Any, table: str, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    with cursor.copy(f"COPY {table} ({', '.join(first)}) FROM STDIN") as copy:
        for one in chain([first], rows):
            copy.write_row(list(one.values()))


def _endpoints(events: int) -> Iterator[dict[str, Any]]:
    for number, url in enumerate(_URLS, start=1):
        disabled = {"disabled_at": _at(events), "disabled_reason": "answered 410"}
        yield {
            "id": number,
            "url": url,
            "created_at": BEGAN,
            **({"disabled_at": None, "disabled_reason": None} if number == 1 else disabled),
        }


def _secrets() -> Iterator[dict[str, Any]]:
    for number in range(1, len(_URLS) + 1):
        encrypted = "encrypted with an unknown key"
        yield {"id": number, "endpoint_id": number, "encrypted": encrypted, "created_at": BEGAN}


def _courses(courses: int, events: int) -> Iterator[dict[str, Any]]:
    for number in range(courses):
        course_id, title = course_id_of(number), f"{_SUBJECTS[number % 5]} {number % 7 + 1}"
        yield {
            "id": number + 1,
            "course_id": course_id,
            "title": title,
            "search_key": search.key(f"{course_id} {title}"),
            "version": events // courses + 2,
            "grades_version": 0,
            "created_at": BEGAN,
            "changed_at": _at(events),
            "deleted_at": _at(events) if number % 20 == 0 else None,
        }


def _tokens(courses: int) -> Iterator[dict[str, Any]]:
    for number in range(courses):
        token = CourseToken.generate()
        yield {
            "course_pk": number + 1,
            "token_id": token.token_id,
            "secret_sha256": token.secret_sha256(),
            "created_at": BEGAN,
            "superseded_at": None,
        }


def _events(courses: int, events: int) -> Iterator[dict[str, Any]]:
    for number in range(events):
        kind = "course.deleted" if number % 10 == 0 else "token.regenerated"
        if number < _RARE:
            kind = "delivery.dead"
        yield {
            "id": _event_id(number),
            "type": kind,
            "course_id": course_id_of(number % courses),
            "course_version": number // courses + 2,
            "body": f'{{"type":"{kind}","data":{{"course_id":"{number % courses}"}}}}',
            "occurred_at": _at(number),
        }


def _deliveries(events: int) -> Iterator[dict[str, Any]]:
    for number in range(events):
        for endpoint_id in (1, 2):
            status = _status(number, endpoint_id, events)
            is_settled = status in {"delivered", "dead"}
            yield {
                "id": number * 2 + endpoint_id,
                "event_id": _event_id(number),
                "endpoint_id": endpoint_id,
                "status": status,
                "attempts": int(is_settled),
                "due_at": _at(number),
                "created_at": _at(number),
                "settled_at": _at(number) if is_settled else None,
                "reason": "the receiver answered 400" if status == "dead" else None,
            }


def _attempts(events: int) -> Iterator[dict[str, Any]]:
    for number in range(events):
        for endpoint_id in (1, 2):
            status = _status(number, endpoint_id, events)
            if status in {"delivered", "dead"}:
                yield {
                    "delivery_id": number * 2 + endpoint_id,
                    "started_at": _at(number),
                    "milliseconds": 12,
                    "status": 200 if status == "delivered" else 400,
                    "detail": '{"outcome": "applied"}',
                    "decided": status,
                }


def _status(number: int, endpoint_id: int, events: int) -> str:
    if endpoint_id == 2:
        return "pending" if number >= events * 0.9 else "delivered"
    if number >= events * 0.99:
        return "pending"
    return "dead" if number % 100 == 7 else "delivered"


def course_id_of(number: int) -> str:
    """Return the id of a course, by its number from 0."""
    return f"{('CS', 'MUS', 'MATH', 'CHEM', 'LAW')[number % 5]}{number:06}-2026"


def _event_id(number: int) -> str:
    return f"msg_{number * 2654435761 % 2**32:032x}"


def _at(number: int) -> datetime:
    return BEGAN + number * BETWEEN
