"""Sign-in: who comes in, who does not, how often one may try, and when a session ends."""

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
from sqlalchemy import event, func, select

from foundation.db.session import Database
from foundation.pages import throttle, users
from foundation.pages.models import EndedSession, SignInFailure
from foundation.pages.redirects import local_path
from tests.foundation.pages.conftest import KEY, NINE, OTHER_KEY, PASSWORD, Service, enter, token_in

WRONG = "The name or the password is wrong."


@pytest.mark.parametrize("name", ["Ada", "ada", " ADA "])
def test_the_right_name_and_password_come_in(client: FlaskClient, ada: str, name: str) -> None:
    answer = enter(client, name)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    page = client.get("/")
    assert page.status_code == 200
    assert f"<bdi>{ada}</bdi>" in page.text


@pytest.mark.parametrize(
    ("name", "password"),
    [
        pytest.param("Ada", "correct horse batterY", id="another case"),
        pytest.param("Ada", "", id="no password"),
        pytest.param("Ada", "x" * 5000, id="a long one"),
        pytest.param("Bob", PASSWORD, id="a stranger"),
        pytest.param("", PASSWORD, id="no name"),
        pytest.param("\ufdfa" * 300, PASSWORD, id="a name that grows when it is compared"),
    ],
)
def test_the_wrong_name_or_password_do_not(
    client: FlaskClient, ada: str, is_in: Callable[[FlaskClient], bool], name: str, password: str
) -> None:
    answer = enter(client, name, password)

    assert answer.status_code == 422
    assert WRONG in answer.text
    assert "users set-password" in answer.text
    assert not is_in(client)


def test_a_stranger_costs_as_much_as_a_wrong_password(
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


def test_one_comes_back_to_the_page_that_was_asked_for(client: FlaskClient, ada: str) -> None:
    sent = client.get("/?after=1%3ACS101")

    assert sent.status_code == 303
    assert sent.headers["Location"] == "/sign-in?next=/?after%3D1%253ACS101"
    form = client.get(sent.headers["Location"])
    assert 'name="next" value="/?after=1%3ACS101"' in form.text
    answer = enter(client, ada, fields={"next": "/?after=1%3ACS101"})
    assert answer.headers["Location"] == "/?after=1%3ACS101"
    again = client.get("/sign-in?next=/?after=1")
    assert (again.status_code, again.headers["Location"]) == (303, "/?after=1")


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    " //evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.example",
    "http:evil.example",
    "/" + "x" * 3000,
    "//[::1",
    "",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_nobody_is_sent_elsewhere(client: FlaskClient, ada: str, address: str) -> None:
    answer = enter(client, ada, fields={"next": address})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert client.get("/sign-in", query_string={"next": address}).headers["Location"] == "/"


@pytest.mark.parametrize("path", ["/", "/courses/a%2Fb?x=1#y", "/a:b", "/é"])
def test_a_path_of_ours_is_kept(path: str) -> None:
    assert local_path(path) == path


def test_the_cookie_is_for_this_service_and_its_pages_alone(
    service: Service, client: FlaskClient, ada: str
) -> None:
    answer = enter(client, ada)

    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    flags = {flag.strip() for flag in rest.split(";")[1:]}
    assert name == service.cookie
    assert flags == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}


def test_nothing_of_the_session_before_is_left(app: Flask, client: FlaskClient, ada: str) -> None:
    with client.session_transaction() as planted:
        planted["planted"] = "x"
    before = token_in(client.get("/sign-in"))

    enter(client, ada)

    with client:
        page = client.get("/")
        assert "planted" not in session
        assert set(session) == {"_user_id", "sid", "since", "seen", "csrf_token"}
    refused = client.post("/sign-out", data={"csrf_token": before})
    assert refused.status_code == 400
    assert client.post("/sign-out", data={"csrf_token": token_in(page)}).status_code == 303


class TestAttempts:
    """How often one may try."""

    def test_a_name_has_to_wait(
        self, client: FlaskClient, ada: str, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        for _ in range(throttle.MAX_FAILURES_PER_NAME):
            assert enter(client, ada, "wrong").status_code == 422

        answer = enter(client, ada)

        assert answer.status_code == 429
        assert 800 <= int(answer.headers["Retry-After"]) <= 900
        assert "Too many sign-ins for this name have failed." in answer.text
        assert "You can try again at <time" in answer.text
        assert "users set-password" in answer.text
        assert not is_in(client)

    def test_others_do_not_wait_for_it(self, client: FlaskClient, ada: str) -> None:
        for number in range(throttle.MAX_FAILURES_PER_NAME):
            enter(client, "Bob", environ_base={"REMOTE_ADDR": f"10.0.0.{number}"})

        assert enter(client, "bob").status_code == 429
        assert enter(client, ada).status_code == 303

    def test_an_address_has_to_wait(self, client: FlaskClient, ada: str) -> None:
        there = {"environ_base": {"REMOTE_ADDR": "10.1.2.3"}}
        for number in range(throttle.MAX_FAILURES_PER_ADDRESS):
            assert enter(client, f"user {number}", "wrong", **there).status_code == 422

        refused, let = enter(client, ada, **there), enter(client, ada)

        assert refused.status_code == 429
        assert "Too many sign-ins from this address have failed." in refused.text
        assert let.status_code == 303

    def test_the_failures_are_counted_over_all_processes(
        self, make_app: Callable[..., Flask], ada: str
    ) -> None:
        first, second = make_app().test_client(), make_app().test_client()
        for number in range(throttle.MAX_FAILURES_PER_NAME):
            enter((first, second)[number % 2], ada, "wrong")

        assert [enter(one, ada).status_code for one in (first, second)] == [429, 429]

    def test_after_a_while_one_may_try_again(
        self, client: FlaskClient, database: Database, ada: str
    ) -> None:
        for _ in range(throttle.MAX_FAILURES_PER_NAME):
            enter(client, ada, "wrong")
        with database.writing() as writing:
            for row in writing.scalars(select(SignInFailure)):
                row.at -= throttle.WINDOW

        assert enter(client, ada).status_code == 303
        with database.reading() as reading:
            assert reading.scalar(select(func.count()).select_from(SignInFailure)) == 0

    def test_who_comes_in_begins_anew(self, client: FlaskClient, ada: str) -> None:
        for _ in range(3):
            for _ in range(throttle.MAX_FAILURES_PER_NAME - 1):
                enter(client, ada, "wrong")
            assert enter(client, ada).status_code == 303
            client.delete_cookie("__Host-notifier")
            client.delete_cookie("__Host-receiver")

    @pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
    def test_the_address_is_who_the_web_server_on_this_machine_speaks_for(
        self, client: FlaskClient, database: Database, peer: str
    ) -> None:
        named = {"headers": {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}}
        enter(client, "Bob", "wrong", environ_base={"REMOTE_ADDR": peer}, **named)
        enter(client, "Bob", "wrong", environ_base={"REMOTE_ADDR": "10.1.2.3"}, **named)

        with database.reading() as reading:
            found = reading.scalars(select(SignInFailure.address).order_by(SignInFailure.id)).all()
        assert list(found) == ["203.0.113.9", "10.1.2.3"]

    def test_no_name_is_stored_that_somebody_mistyped(
        self, client: FlaskClient, database: Database
    ) -> None:
        enter(client, "hunter2-hunter2", "x")

        with database.reading() as reading:
            row = reading.scalars(select(SignInFailure)).one()
        assert len(row.name_sha256) == 64
        assert "hunter2" not in repr(vars(row))


class TestEnd:
    """When a session is over."""

    def test_signing_out_ends_it_for_every_copy_of_its_cookie(
        self,
        service: Service,
        app: Flask,
        signed_in: FlaskClient,
        is_in: Callable[[FlaskClient], bool],
    ) -> None:
        cookie = signed_in.get_cookie(service.cookie)
        assert cookie is not None
        thief, other = app.test_client(), app.test_client()
        thief.set_cookie(service.cookie, cookie.value)
        enter(other, "Ada")
        assert is_in(thief)

        answer = signed_in.post("/sign-out", data={"csrf_token": token_in(signed_in.get("/"))})

        assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
        assert "You are signed out." in signed_in.get("/sign-in").text
        assert [is_in(one) for one in (signed_in, thief, other)] == [False, False, True]

    def test_signing_out_twice_at_once_is_signing_out(
        self, service: Service, app: Flask, signed_in: FlaskClient, database: Database
    ) -> None:
        form = token_in(signed_in.get("/"))
        cookie = signed_in.get_cookie(service.cookie)
        together = threading.Barrier(2)
        assert cookie is not None

        def wait(_: Any, __: Any, statement: str, *___: Any) -> None:
            if statement.startswith("INSERT INTO ended_sessions"):
                with suppress(threading.BrokenBarrierError):  # SQLite lets one in at a time
                    together.wait(timeout=1)

        def leave(_: int) -> str | None:
            browser = app.test_client()
            browser.set_cookie(service.cookie, cookie.value)
            return browser.post("/sign-out", data={"csrf_token": form}).location

        event.listen(database.engine, "before_cursor_execute", wait)
        with ThreadPoolExecutor(2) as both:
            led_to = list(both.map(leave, range(2)))

        assert set(led_to) <= {"/sign-in", "/sign-in?next=/"}, led_to

    def test_what_is_kept_of_ended_sessions_goes_with_time(
        self, signed_in: FlaskClient, database: Database
    ) -> None:
        with database.writing() as writing:
            writing.add(EndedSession(session_id="old", ends_at=NINE))

        signed_in.post("/sign-out", data={"csrf_token": token_in(signed_in.get("/"))})

        with database.reading() as reading:
            assert "old" not in reading.scalars(select(EndedSession.session_id)).all()
            assert reading.scalar(select(func.count()).select_from(EndedSession)) == 1

    def test_it_ends_when_nobody_uses_it(
        self, client: FlaskClient, ada: str, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        with freeze_time(NINE) as clock:
            enter(client, ada)
            clock.tick(timedelta(hours=7))
            assert is_in(client)
            clock.tick(timedelta(hours=4, minutes=59))
            assert is_in(client)

        with freeze_time(NINE) as clock:
            client.delete_cookie("__Host-notifier")
            client.delete_cookie("__Host-receiver")
            enter(client, ada)
            clock.tick(timedelta(hours=8))
            assert not is_in(client)

    def test_it_ends_after_twelve_hours_however_it_is_used(
        self, client: FlaskClient, ada: str, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        with freeze_time(NINE) as clock:
            enter(client, ada)
            for _ in range(11):
                clock.tick(timedelta(hours=1))
                assert is_in(client)
            clock.tick(timedelta(hours=1))

            assert not is_in(client)

    def test_a_page_that_refreshes_itself_does_not_prolong_it(
        self, client: FlaskClient, ada: str, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        with freeze_time(NINE) as clock:
            enter(client, ada)
            for _ in range(7):
                clock.tick(timedelta(hours=1))
                assert client.get("/", headers={"X-Refresh": "yes"}).status_code == 200
            clock.tick(timedelta(hours=1))

            assert not is_in(client)

    def test_a_new_password_ends_it(
        self, signed_in: FlaskClient, database: Database, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        with database.writing() as writing:
            users.set_password(writing, "ada", "another one entirely", now=NINE)

        assert not is_in(signed_in)
        assert enter(signed_in, "Ada", "another one entirely").status_code == 303

    def test_removing_the_user_ends_it(
        self, signed_in: FlaskClient, database: Database, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        with database.writing() as writing:
            users.remove(writing, "Ada")
        assert not is_in(signed_in)

        with database.writing() as writing:
            users.add(writing, "Ada", PASSWORD, now=NINE)

        assert not is_in(signed_in)

    def test_it_outlives_a_new_encryption_key_and_not_the_loss_of_the_old(
        self,
        service: Service,
        make_app: Callable[..., Flask],
        signed_in: FlaskClient,
        is_in: Callable[[FlaskClient], bool],
    ) -> None:
        cookie = signed_in.get_cookie(service.cookie)
        assert cookie is not None
        browsers = []
        for keys in (f"{OTHER_KEY},{KEY}", OTHER_KEY):
            browsers.append(make_app(encryption_keys=keys).test_client())
            browsers[-1].set_cookie(service.cookie, cookie.value)

        assert [is_in(browser) for browser in browsers] == [True, False]

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"_user_id": "x.y"}, id="no number"),
            pytest.param({"_user_id": "1"}, id="no fingerprint"),
            pytest.param({"_user_id": "1.x"}, id="wrong fingerprint"),
            pytest.param({"_user_id": "99999999999999999999.x"}, id="a number of no user"),
            pytest.param({"sid": None}, id="no session's number"),
        ],
    )
    def test_a_cookie_that_we_would_not_write_is_nobody(
        self,
        signed_in: FlaskClient,
        is_in: Callable[[FlaskClient], bool],
        change: dict[str, str | None],
    ) -> None:
        with signed_in.session_transaction() as kept:
            for name, value in change.items():
                kept[name] = value
                if value is None:
                    del kept[name]

        assert not is_in(signed_in)


class TestForms:
    """Forms that are not from a page of this session."""

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({}, id="no token"),
            pytest.param({"csrf_token": ""}, id="an empty token"),
            pytest.param({"csrf_token": "IjAi.x.y"}, id="a wrong token"),
        ],
    )
    @pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
    def test_they_are_a_page_that_says_so(
        self, signed_in: FlaskClient, fields: dict[str, str], path: str
    ) -> None:
        given = {"name": "Ada", "password": PASSWORD, **fields}

        answer = signed_in.post(path, data=given)

        assert (answer.status_code, answer.mimetype) == (400, "text/html")
        assert "The form is not from a page of this session" in answer.text
        assert "reload the page and send the form again" in answer.text
        assert signed_in.get("/").status_code == 200

    def test_anothers_token_is_not_taken(
        self, app: Flask, signed_in: FlaskClient, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        token = token_in(app.test_client().get("/sign-in"))

        answer = signed_in.post("/sign-out", data={"csrf_token": token})

        assert answer.status_code == 400
        assert is_in(signed_in)

    def test_nobody_is_signed_in_by_anothers_form(
        self, client: FlaskClient, ada: str, is_in: Callable[[FlaskClient], bool]
    ) -> None:
        answer = client.post("/sign-in", data={"name": ada, "password": PASSWORD})

        assert answer.status_code == 400
        assert not is_in(client)

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"password": PASSWORD}, id="no name"),
            pytest.param({"name": "Ada"}, id="no password"),
            pytest.param({"name": "Ada", "password": "x", "more": "x"}, id="a field too many"),
            pytest.param({"name": "A\0da", "password": "x"}, id="NUL"),
        ],
    )
    def test_a_form_that_our_page_would_not_send_is_refused(
        self, client: FlaskClient, fields: dict[str, str]
    ) -> None:
        token = token_in(client.get("/sign-in"))

        answer = client.post("/sign-in", data={**fields, "csrf_token": token})

        assert (answer.status_code, answer.mimetype) == (400, "text/html")

    def test_a_form_that_is_too_large_is_refused_unread(self, client: FlaskClient) -> None:
        token = token_in(client.get("/sign-in"))
        fields = {"name": "x" * 300_000, "password": "x", "csrf_token": token}

        answer = client.post("/sign-in", data=fields)

        assert (answer.status_code, answer.mimetype) == (413, "text/html")
        assert "The body is larger than 262144 bytes." in answer.text


def test_who_is_not_signed_in_sends_no_form(client: FlaskClient) -> None:
    answer = client.post("/sign-out", data={})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=/")
