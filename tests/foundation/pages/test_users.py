"""Users: who may sign in, by which name, and with which password."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from foundation.db.session import Database
from foundation.errors import Refusal
from foundation.pages import users
from foundation.pages.errors import (
    NameInvalidError,
    PasswordWeakError,
    UserExistsError,
    UserUnknownError,
)
from tests.foundation.pages.conftest import NINE, PASSWORD

SLOW = users.METHOD
"""How passwords are hashed outside of these tests."""


@pytest.fixture
def add(database: Database) -> Callable[..., int]:
    """Return what adds a user at nine, and answers the number."""

    def make(name: str, password: str = PASSWORD) -> int:
        with database.writing() as session:
            return users.add(session, name, password, now=NINE).id

    return make


def test_a_user_is_found_in_whatever_case(database: Database, add: Callable[..., int]) -> None:
    user_id = add("Åsa Große")

    with database.reading() as session:
        found = [users.find(session, name) for name in ("åsa GROSSE", "A\u030asa Große", "Asa")]

    assert [row and row.id for row in found] == [user_id, user_id, None]
    assert found[0] is not None
    assert (found[0].name, found[0].created_at) == ("Åsa Große", NINE)


def test_a_name_is_one_users(add: Callable[..., int]) -> None:
    add("Ada")

    with pytest.raises(UserExistsError, match="there is a user 'ADA'") as refusal:
        add("ADA")

    assert refusal.value.advice.action == "users set-password"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="nothing"),
        pytest.param(" ada", id="a space before it"),
        pytest.param("ada\n", id="a line after it"),
        pytest.param("a\u202eda", id="a turn of direction"),
        pytest.param("a\0da", id="NUL"),
        pytest.param("x" * 101, id="too long"),
        pytest.param("\ufdfa" * 100, id="too long as it is compared"),
        pytest.param("\ud800", id="not UTF-8"),
    ],
)
def test_what_is_no_name_is_refused(add: Callable[..., int], name: str) -> None:
    with pytest.raises(NameInvalidError, match="cannot be a user's name"):
        add(name)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        pytest.param("elevenchars", "11 characters, where 12 to 1000 are expected", id="short"),
        pytest.param("x" * 1001, "1001 characters, where 12 to 1000 are expected", id="long"),
        pytest.param("ababababababab", "the password is too common", id="two letters"),
        pytest.param("ADMINISTRATOR", "the password is too common", id="the name"),
        pytest.param("correct horse\ud800", "the password is not UTF-8", id="not UTF-8"),
    ],
)
def test_a_weak_password_is_refused(add: Callable[..., int], password: str, why: str) -> None:
    with pytest.raises(PasswordWeakError, match=f"^{why}$") as refusal:
        add("Administrator", password)

    assert "12 to 1000 characters" in refusal.value.advice.text


def test_an_accent_is_one_however_it_is_typed(database: Database, add: Callable[..., int]) -> None:
    add("Ada", "caf\u00e9 caf\u00e9 caf\u00e9")

    with database.reading() as session:
        user = users.get(session, "Ada")

    assert users.is_password_of(user, "cafe\u0301 cafe\u0301 cafe\u0301")
    assert not users.is_password_of(user, "cafe cafe cafe")


def test_a_new_password_takes_the_place_of_the_old(
    database: Database, add: Callable[..., int]
) -> None:
    add("Ada")
    with database.writing() as session:
        before = users.fingerprint(users.get(session, "Ada"))
        users.set_password(session, "ada", "another one entirely", now=NINE + timedelta(1))

    with database.reading() as session:
        user = users.get(session, "Ada")
    assert users.is_password_of(user, "another one entirely")
    assert not users.is_password_of(user, PASSWORD)
    assert users.fingerprint(user) != before
    assert (user.created_at, user.password_changed_at) == (NINE, NINE + timedelta(1))


def test_users_are_listed_by_name(database: Database, add: Callable[..., int]) -> None:
    for name in ("bob", "Ada", "Carol"):
        add(name)

    with database.reading() as session:
        assert [user.name for user in users.list_all(session)] == ["Ada", "bob", "Carol"]


def test_a_number_is_never_anothers(database: Database, add: Callable[..., int]) -> None:
    first = add("Ada")
    with database.writing() as session:
        assert users.remove(session, "ADA") == "Ada"

    assert add("Ada") > first


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda session: users.get(session, "Bob"), id="get"),
        pytest.param(lambda session: users.remove(session, "Bob"), id="remove"),
        pytest.param(
            lambda session: users.set_password(session, "Bob", PASSWORD, now=NINE), id="password"
        ),
    ],
)
def test_who_is_not_there_is_refused(database: Database, change: Callable[..., object]) -> None:
    with pytest.raises(Refusal, match="there is no user 'Bob'") as refusal, database.writing() as s:
        change(s)

    assert isinstance(refusal.value, UserUnknownError)
    assert refusal.value.advice.action == "users list"


def test_a_password_is_stored_as_a_slow_hash(
    monkeypatch: pytest.MonkeyPatch, database: Database, add: Callable[..., int]
) -> None:
    monkeypatch.setattr(users, "METHOD", SLOW)
    add("Ada")

    with database.reading() as session:
        user = users.get(session, "Ada")

    assert user.password_hash.startswith("scrypt:32768:8:1$")
    assert PASSWORD not in user.password_hash
    assert users.fingerprint(user) not in user.password_hash
