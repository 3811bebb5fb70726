"""Sign-in and sign-out, the end of a session, and forms of other origin."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from freezegun import freeze_time
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from foundation.db.session import Database
from foundation.pages import throttle, users
from foundation.pages.models import EndedSession, SignInAttempt
from foundation.pages.redirects import local_path
from tests.foundation.pages.conftest import (
    KEY,
    NINE,
    PASSWORD,
    Service,
    copy_of,
    each_database,
    each_service,
    enter,
    is_in,
    token_in,
)

OTHER_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
HOUR = timedelta(hours=1)


@each_service
def test_right_password_signs_in_with_a_protected_cookie(
    service: Service, client: FlaskClient, ada: str
) -> None:
    response = enter(client, " ADA ")

    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert f"<bdi>{ada}</bdi>" in client.get("/").text
    name, _, rest = response.headers["Set-Cookie"].partition("=")
    assert name == service.cookie
    flags = {flag.strip() for flag in rest.split(";")[1:]}
    assert flags == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}


@pytest.mark.parametrize(
    ("name", "password"),
    [
        pytest.param("Ada", "correct horse batterY", id="password"),
        pytest.param("Bob", PASSWORD, id="name"),
        pytest.param("\ufdfa" * 300, "", id="name that grows when normalized"),
    ],
)
def test_wrong_name_or_password_is_refused(
    client: FlaskClient, ada: str, name: str, password: str
) -> None:
    response = enter(client, name, password)

    assert response.status_code == 422
    assert "The name or the password is wrong." in response.text
    assert "users set-password" in response.text
    assert not is_in(client)


def test_unknown_name_costs_a_password_check(
    monkeypatch: pytest.MonkeyPatch, client: FlaskClient, ada: str
) -> None:
    hashed: list[str] = []
    check = users.check_password_hash
    monkeypatch.setattr(
        users,
        "check_password_hash",
        lambda stored, given: hashed.append(stored.split("$")[0]) or check(stored, given),
    )

    enter(client, "Ada", "wrong")
    enter(client, "Bob", "wrong")

    assert hashed == [users.METHOD, users.METHOD]


def test_sign_in_leads_back_to_the_requested_page(client: FlaskClient, ada: str) -> None:
    requested = "/?after=1%3ACS101"

    sent = client.get(requested)

    assert sent.status_code == 303
    assert sent.headers["Location"] == "/sign-in?next=/?after%3D1%253ACS101"
    assert f'name="next" value="{requested}"' in client.get(sent.headers["Location"]).text
    assert enter(client, ada, fields={"next": requested}).headers["Location"] == requested
    assert client.get("/sign-in?next=/?after=1").headers["Location"] == "/?after=1"
    assert client.get("/sign-in?next=//evil.example/").headers["Location"] == "/"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "evil.example",
        "http:evil.example",
        "/" + "x" * 3000,
        "//[::1",
        "",
    ],
)
@pytest.mark.parametrize("prefix", ["", "/admin"], ids=["no prefix", "prefix"])
def test_redirect_elsewhere_becomes_one_to_the_start(address: str, prefix: str) -> None:
    with Flask("here").test_request_context(base_url=f"http://localhost{prefix}"):
        assert local_path(address) == f"{prefix}/"


@pytest.mark.parametrize("path", ["/", "/courses/a%2Fb?x=1#y", "/a:b", "/é"])
@pytest.mark.parametrize("prefix", ["", "/admin"], ids=["no prefix", "prefix"])
def test_redirect_to_a_path_is_unchanged(path: str, prefix: str) -> None:
    with Flask("here").test_request_context(base_url=f"http://localhost{prefix}"):
        assert local_path(f"{prefix}{path}") == f"{prefix}{path}"


def test_redirect_out_of_the_prefix_becomes_one_to_the_start() -> None:
    with Flask("here").test_request_context(base_url="http://localhost/admin"):
        assert local_path("/administrator") == "/admin/"


def test_sign_in_keeps_nothing_of_the_session_before(client: FlaskClient, ada: str) -> None:
    with client.session_transaction() as planted:
        planted["planted"] = "x"
    before = token_in(client.get("/sign-in"))

    enter(client, ada)

    with client:
        page = client.get("/")
        assert set(session) == {"_user_id", "sid", "since", "seen", "csrf_token"}
    assert client.post("/sign-out", data={"csrf_token": before}).status_code == 400
    assert client.post("/sign-out", data={"csrf_token": token_in(page)}).status_code == 303


def test_too_many_failures_are_a_429_until_a_time(client: FlaskClient, ada: str) -> None:
    for _ in range(throttle.MAX_FAILURES_PER_NAME):
        assert enter(client, ada, "wrong").status_code == 422

    response = enter(client, ada)

    assert response.status_code == 429
    assert 800 <= int(response.headers["Retry-After"]) <= 900
    assert "Too many sign-ins for this name have failed." in response.text
    assert "You can try again at <time" in response.text
    assert "users set-password" in response.text
    assert not is_in(client)


def test_success_clears_the_failures_of_the_name(
    client: FlaskClient, database: Database, ada: str
) -> None:
    enter(client, ada, "wrong")
    enter(client, "Bob", "wrong")

    enter(client, ada)

    with database.reading() as reading:
        assert len(reading.scalars(select(SignInAttempt)).all()) == 1


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("127.0.0.1", "203.0.113.9"),
        ("::1", "203.0.113.9"),
        ("::ffff:127.0.0.1", "203.0.113.9"),
        ("10.1.2.3", "10.1.2.3"),
    ],
)
def test_only_a_proxy_on_this_machine_names_the_client(
    client: FlaskClient, database: Database, peer: str, address: str
) -> None:
    headers = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}

    enter(client, "Bob", "wrong", environ_base={"REMOTE_ADDR": peer}, headers=headers)

    with database.reading() as reading:
        assert reading.scalars(select(SignInAttempt.address)).one() == address


def test_sign_out_ends_every_copy_of_the_session(
    service: Service, app: Flask, database: Database, signed_in: FlaskClient
) -> None:
    copy, other = copy_of(signed_in, app, service), app.test_client()
    enter(other, "Ada")
    assert is_in(copy)
    with database.writing() as writing:
        writing.add(EndedSession(session_id="expired", ends_at=NINE))

    response = signed_in.post("/sign-out", data={"csrf_token": token_in(signed_in.get("/"))})

    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in")
    assert "You are signed out." in signed_in.get("/sign-in").text
    assert [is_in(one) for one in (signed_in, copy, other)] == [False, False, True]
    with database.reading() as reading:
        assert reading.scalars(select(EndedSession.session_id)).one() != "expired"


@each_database
def test_double_click_signs_out_once(
    service: Service, app: Flask, signed_in: FlaskClient, database: Database
) -> None:
    form = token_in(signed_in.get("/"))
    browsers = [copy_of(signed_in, app, service) for _ in range(2)]
    together = threading.Barrier(2)

    def wait(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO ended_sessions"):
            with suppress(threading.BrokenBarrierError):  # SQLite lets one in at a time
                together.wait(timeout=0.5)

    event.listen(database.engine, "before_cursor_execute", wait)
    with ThreadPoolExecutor(2) as both:
        responses = both.map(
            lambda browser: browser.post("/sign-out", data={"csrf_token": form}), browsers
        )

    locations = {response.location for response in responses}
    assert locations <= {"/sign-in", "/sign-in?next=/"}, locations


@pytest.mark.parametrize(
    ("steps", "headers", "expected"),
    [
        pytest.param([7.9, 4], {}, True, id="used"),
        pytest.param([8], {}, False, id="idle for 8 hours"),
        pytest.param([4, 4, 4], {}, False, id="12 hours in use"),
        pytest.param([4, 4], {"X-Refresh": "yes"}, False, id="refreshes are no use"),
    ],
)
def test_session_ends_with_time(
    client: FlaskClient, ada: str, steps: list[float], headers: dict[str, str], expected: bool
) -> None:
    with freeze_time(NINE) as clock:
        enter(client, ada)
        for hours in steps:
            clock.tick(hours * HOUR)
            last = client.get("/", headers=headers)

    assert (last.status_code == 200) is expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda writing: users.set_password(writing, "ada", "another one entirely", now=NINE),
            id="new password",
        ),
        pytest.param(lambda writing: users.remove(writing, "Ada"), id="removed"),
    ],
)
def test_session_ends_with_the_password(
    signed_in: FlaskClient, database: Database, change: Callable[[Session], object]
) -> None:
    with database.writing() as writing:
        change(writing)

    assert not is_in(signed_in)


@pytest.mark.parametrize(("keys", "expected"), [(f"{OTHER_KEY},{KEY}", True), (OTHER_KEY, False)])
def test_session_ends_with_the_loss_of_its_encryption_key(
    service: Service,
    make_app: Callable[..., Flask],
    signed_in: FlaskClient,
    keys: str,
    expected: bool,
) -> None:
    assert is_in(copy_of(signed_in, make_app(encryption_keys=keys), service)) is expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"_user_id": "x.y"}, id="no number"),
        pytest.param({"_user_id": "1.x"}, id="wrong fingerprint"),
        pytest.param({"_user_id": "99999999999999999999.x"}, id="huge number"),
        pytest.param({"sid": None}, id="no session id"),
    ],
)
def test_invalid_session_is_none(signed_in: FlaskClient, change: dict[str, str | None]) -> None:
    with signed_in.session_transaction() as stored:
        stored.update(change)
        for name in [name for name, value in change.items() if value is None]:
            del stored[name]

    assert not is_in(signed_in)


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
def test_form_needs_the_token_of_its_session(app: Flask, signed_in: FlaskClient, path: str) -> None:
    other = token_in(app.test_client().get("/sign-in"))

    for token in ("", "IjAi.x.y", other):
        fields = {"name": "Ada", "password": PASSWORD, "csrf_token": token}
        response = signed_in.post(path, data=fields)

        assert (response.status_code, response.mimetype) == (400, "text/html")
        assert "The form is not from a page of this session" in response.text
        assert "reload the page and send the form again" in response.text
    assert is_in(signed_in)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        pytest.param({"name": "Ada"}, 400, "", id="field missing"),
        pytest.param({"name": "A", "password": "x", "more": "x"}, 400, "", id="unknown field"),
        pytest.param({"name": "A\0da", "password": "x"}, 400, "", id="NUL"),
        pytest.param(
            {"name": "x" * 300_000, "password": "x"},
            413,
            "The body is larger than 262144 bytes.",
            id="too large",
        ),
    ],
)
def test_form_that_no_page_sends_is_refused(
    client: FlaskClient, fields: dict[str, str], status: int, said: str
) -> None:
    token = token_in(client.get("/sign-in"))

    response = client.post("/sign-in", data={**fields, "csrf_token": token})

    assert (response.status_code, response.mimetype) == (status, "text/html")
    assert said in response.text
