"""Users: names, passwords, add, find, change, remove."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from foundation.db.session import Database
from foundation.pages import users
from foundation.pages.errors import (
    NameInvalidError,
    PasswordWeakError,
    UserExistsError,
    UserUnknownError,
)
from foundation.pages.models import User
from tests.foundation.pages.conftest import NINE, PASSWORD, each_database

# The product's own; `quick_hashes` replaces it in the other tests.
METHOD = users.METHOD
Add = Callable[..., int]


@pytest.fixture
def add(database: Database) -> Add:
    def make(name: str, password: str = PASSWORD) -> int:
        with database.writing() as session:
            return users.add(session, name, password, now=NINE).id

    return make


@pytest.fixture
def find(database: Database) -> Callable[[str], User | None]:
    def by_name(name: str) -> User | None:
        with database.reading() as session:
            return users.find(session, name)

    return by_name


def test_user_is_found_in_any_case(find: Callable[[str], User | None], add: Add) -> None:
    user_id = add("Åsa Große")

    found = [find(name) for name in ("åsa GROSSE", "A\u030asa Große", "Asa")]

    assert [user and user.id for user in found] == [user_id, user_id, None]
    assert found[0] is not None
    assert (found[0].name, found[0].created_at) == ("Åsa Große", NINE)


@each_database
def test_name_is_unique_in_any_case(add: Add) -> None:
    add("Ada")

    with pytest.raises(UserExistsError, match="there is a user 'ADA'") as refused:
        add("ADA")

    assert refused.value.advice.action == "users set-password"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param(" ada", id="leading space"),
        pytest.param("a\u202eda", id="not printable"),
        pytest.param("x" * 101, id="too long"),
        pytest.param("\ufdfa" * 100, id="too long when normalized"),
        pytest.param("\ud800", id="not UTF-8"),
    ],
)
def test_invalid_name_is_refused(add: Add, name: str) -> None:
    with pytest.raises(NameInvalidError, match="cannot be a user's name"):
        add(name)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        pytest.param("elevenchars", "11 characters, where 12 to 1000 are expected", id="short"),
        pytest.param("x" * 1001, "1001 characters, where 12 to 1000 are expected", id="long"),
        pytest.param("ababababababab", "the password is too common", id="two letters"),
        pytest.param("ADMINISTRATOR", "the password is too common", id="name"),
        pytest.param("correct horse\ud800", "the password is not UTF-8", id="not UTF-8"),
    ],
)
def test_weak_password_is_refused(add: Add, password: str, why: str) -> None:
    with pytest.raises(PasswordWeakError, match=f"^{why}$") as refused:
        add("Administrator", password)

    assert "12 to 1000 characters" in refused.value.advice.text


def test_accents_are_compared_in_one_form(find: Callable[[str], User | None], add: Add) -> None:
    add("Ada", "caf\u00e9 caf\u00e9 caf\u00e9")

    user = find("Ada")

    assert users.is_password_of(user, "cafe\u0301 cafe\u0301 cafe\u0301")
    assert not users.is_password_of(user, "cafe cafe cafe")


def test_new_password_replaces_the_old(database: Database, add: Add) -> None:
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


def test_users_are_listed_by_name(database: Database, add: Add) -> None:
    for name in ("bob", "Ada", "Carol"):
        add(name)

    with database.reading() as session:
        assert [user.name for user in users.list_all(session)] == ["Ada", "bob", "Carol"]


@each_database
def test_id_is_never_reused(database: Database, add: Add) -> None:
    first = add("Ada")
    with database.writing() as session:
        assert users.remove(session, "ADA") == "Ada"

    assert add("Ada") > first


def test_unknown_user_is_refused(database: Database) -> None:
    with (
        pytest.raises(UserUnknownError, match="there is no user 'Bob'") as refused,
        database.reading() as session,
    ):
        users.get(session, "Bob")

    assert refused.value.advice.action == "users list"


def test_password_is_stored_as_a_slow_hash(
    monkeypatch: pytest.MonkeyPatch, find: Callable[[str], User | None], add: Add
) -> None:
    monkeypatch.setattr(users, "METHOD", METHOD)
    add("Ada")

    user = find("Ada")

    assert user is not None
    assert user.password_hash.startswith("scrypt:32768:8:1$")
    assert PASSWORD not in user.password_hash
    assert users.fingerprint(user) not in user.password_hash
