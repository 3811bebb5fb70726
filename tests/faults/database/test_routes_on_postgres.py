"""What a route answers when PostgreSQL breaks off, and what is then in the database."""

import time
from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from foundation.db.session import Database
from notifier.models import SOURCE
from tests.faults.database.conftest import SITE, Route, admin, held, with_database
from tests.faults.postgres_proxy import (
    DEADLOCK,
    DISK_FULL,
    LOCKED,
    READ_ONLY,
    SERIALIZATION,
    SHUTDOWN,
    STARTING,
    TOO_MANY,
    Break,
    PostgresProxy,
    Says,
)

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

Refused = Callable[[TestResponse], None]
MakeProxy = Callable[[str], PostgresProxy]

NOTHING, ALL = {False}, {True}


@pytest.mark.parametrize(
    ("words", "happens", "left"),
    [
        pytest.param("BEGIN", Break.BEFORE, NOTHING, id="cut at BEGIN"),
        pytest.param("INSERT INTO", Break.BEFORE, NOTHING, id="cut before a statement"),
        pytest.param("INSERT INTO", Break.IN_STATEMENT, NOTHING, id="cut in a statement"),
        pytest.param("INSERT INTO", Break.IN_ANSWER, NOTHING, id="cut in an answer"),
        pytest.param("INSERT INTO", Break.AFTER, NOTHING, id="cut after a statement"),
        pytest.param("COMMIT", Break.BEFORE, NOTHING, id="cut before COMMIT arrives"),
        pytest.param("COMMIT", Break.IN_STATEMENT, NOTHING, id="cut in COMMIT"),
        pytest.param("COMMIT", Break.AFTER, ALL, id="cut after COMMIT was done"),
        pytest.param("COMMIT", Break.IN_ANSWER, ALL, id="cut in the answer to COMMIT"),
        pytest.param("INSERT INTO", DISK_FULL, NOTHING, id="disk full"),
        pytest.param("COMMIT", DISK_FULL, NOTHING, id="disk full at COMMIT"),
        pytest.param("INSERT INTO", SHUTDOWN, NOTHING, id="shut down"),
        pytest.param("COMMIT", SHUTDOWN, NOTHING, id="shut down at COMMIT"),
        pytest.param("INSERT INTO", READ_ONLY, NOTHING, id="read-only"),
        pytest.param("INSERT INTO", LOCKED, NOTHING, id="locked by another"),
        pytest.param("INSERT INTO", DEADLOCK, NOTHING, id="deadlock"),
        pytest.param("COMMIT", SERIALIZATION, NOTHING, id="serialization failure at COMMIT"),
    ],
)
def test_a_change_is_whole_or_not_there(
    writing_route: Route,
    make_proxy: MakeProxy,
    refused: Refused,
    words: str,
    happens: Break | Says,
    left: set[bool],
) -> None:
    proxy = make_proxy(writing_route.url)
    app = writing_route.make_app(proxy.url)
    fault = proxy.on(words, happens)

    answer = writing_route.call(app)

    refused(answer)
    assert fault.met.is_set()
    assert writing_route.done() == left
    again = writing_route.call(app)
    assert again.status_code in writing_route.taken
    assert writing_route.done() == ALL


@pytest.mark.parametrize("towards", ["client", "server"])
def test_a_cut_at_any_byte_is_a_503(
    writing_route: Route, make_proxy: MakeProxy, refused: Refused, towards: str
) -> None:
    proxy = make_proxy(writing_route.url)
    app = writing_route.make_app(proxy.url)
    cuts = 0

    for count in range(0, 20_000, 37):
        was_cut = proxy.cut_after(count, towards=towards)
        answer = writing_route.call(app)
        if not was_cut.is_set():
            break
        cuts += 1
        refused(answer)
        assert len(writing_route.done()) == 1, f"half a change, cut after {count} bytes"

    assert cuts > 20
    assert answer.status_code in writing_route.taken
    assert writing_route.done() == ALL


@pytest.mark.parametrize(
    "how", [pytest.param(TOO_MANY, id="too many"), pytest.param(STARTING, id="starting")]
)
def test_a_server_that_takes_no_connection_is_a_503(
    route: Route, make_proxy: MakeProxy, refused: Refused, how: Says
) -> None:
    proxy = make_proxy(route.url)
    app = route.make_app(proxy.url)
    proxy.refuse(how)

    during = route.call(app)
    proxy.come_back()
    after = route.call(app)

    refused(during)
    assert after.status_code in route.taken


def test_a_server_that_went_away_is_a_503_until_it_is_back(
    route: Route, make_proxy: MakeProxy, refused: Refused
) -> None:
    proxy = make_proxy(route.url)
    app = route.make_app(proxy.url)
    before = route.call(app)

    proxy.go_away()
    during = [route.call(app) for _ in range(3)]
    proxy.come_back()
    after = route.call(app)

    assert before.status_code in route.taken
    for answer in during:
        refused(answer)
    assert after.status_code in route.taken


@pytest.mark.parametrize("words", ["BEGIN", "SELECT", "COMMIT"])
def test_a_server_that_falls_silent_is_given_up(
    deletion_route: Route, make_proxy: MakeProxy, refused: Refused, words: str
) -> None:
    proxy = make_proxy(deletion_route.url)
    impatient = Database(proxy.url, timeout=0.1, statement_timeout=0.4, info={SOURCE: SITE})
    app = with_database(deletion_route.make_app(proxy.url), impatient)
    fault = proxy.on(words, Break.SILENCE)

    started = time.monotonic()
    answer = deletion_route.call(app)
    took = time.monotonic() - started

    refused(answer)
    assert fault.met.is_set()
    assert took < 0.5 + 1
    assert deletion_route.done() == NOTHING
    assert deletion_route.call(app).status_code == 200


def test_a_backend_that_was_terminated_costs_no_request(route: Route) -> None:
    app = route.make_app(route.url)
    before = route.call(app)
    operator = Database(route.url)
    with operator.reading() as session:
        ended = session.connection().exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        count = len(ended.all())
    operator.dispose()

    after = route.call(app)

    assert count > 0
    assert before.status_code in route.taken
    assert after.status_code in route.taken


def test_a_table_that_is_gone_is_a_503(
    writing_route: Route, make_proxy: MakeProxy, refused: Refused
) -> None:
    proxy = make_proxy(writing_route.url)
    app = writing_route.make_app(proxy.url)
    fault = proxy.on("INSERT INTO", Says("42P01", 'relation "gone" does not exist'))

    answer = writing_route.call(app)

    refused(answer)
    assert fault.met.is_set()
    assert writing_route.done() == NOTHING


def test_tables_that_another_holds_are_a_503(route: Route, refused: Refused) -> None:
    app = route.make_app(route.url, database_timeout=0.2)

    with held(route.url, route.schema):
        during = route.call(app)
    after = route.call(app)

    refused(during)
    assert after.status_code in route.taken


def test_a_token_whose_answer_was_lost_can_be_had_again(
    deletion_route: Route, make_proxy: MakeProxy, refused: Refused
) -> None:
    proxy = make_proxy(deletion_route.url)
    app = deletion_route.make_app(proxy.url)
    document = {"course_id": "CS102", "title": "Logic"}
    proxy.on("COMMIT", Break.AFTER)

    lost = admin("POST", "/courses", document)(app)
    again = admin("POST", "/courses", document)(app)
    token = admin("POST", "/courses/CS102/token")(app)

    refused(lost)
    assert (again.status_code, token.status_code) == (409, 201)
    assert again.get_json(force=True)["action"].startswith("courses regenerate-token")
