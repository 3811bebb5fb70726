"""`users`: add, list, change and remove users on the command line."""

import json
from functools import partial

import pytest

from foundation.cli import output
from foundation.db.session import Database
from foundation.pages import users
from tests.foundation.pages.conftest import PASSWORD, Run, each_service


@pytest.fixture
def run(run_program: Run) -> Run:
    return partial(run_program, "users")


@each_service
def test_user_is_added_listed_changed_and_removed(run: Run, database: Database) -> None:
    results = [
        run("add", "Ada", stdin=f"{PASSWORD}\n"),
        run("list"),
        run("set-password", "ada", stdin="another one entirely\r\n"),
        run("list", "--json"),
        run("list", "--csv"),
    ]
    with database.reading() as session:
        changed = users.is_password_of(users.get(session, "Ada"), "another one entirely")
    results += [run("remove", "ADA"), run("list")]

    assert [result.exit_code for result in results] == [0] * 7
    assert changed
    printed = [result.stdout for result in results]
    assert printed[0] == "Ada can sign in\n"
    assert printed[1].splitlines()[0].split() == ["user", "added", "password", "set"]
    assert printed[2] == "ada has a new password and is signed out everywhere\n"
    assert set(json.loads(printed[3])["users"][0]) == {"user", "created_at", "password_changed_at"}
    assert printed[4].splitlines()[0] == "user,created_at,password_changed_at"
    assert printed[4].splitlines()[1].startswith("Ada,")
    assert printed[5] == "Ada is removed and signed out everywhere\n"
    assert printed[6].startswith("no users; add one with `")
    assert PASSWORD not in "".join(printed)


def test_refusal_has_advice(run: Run) -> None:
    result = run("add", "Ada", stdin="short\n")

    assert result.exit_code == 1
    assert "5 characters, where 12" in result.stderr
    assert " next: " in result.stderr
    assert json.loads(run("list", "--json").stdout) == {"users": [], "next": None}


def test_prompt_asks_for_the_password_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    monkeypatch.setattr(output, "_is_terminal", lambda: True)

    result = run("add", "Ada", stdin=f"{PASSWORD}\n{PASSWORD} no\n{PASSWORD}\n{PASSWORD}\n")

    assert result.exit_code == 0
    assert "The two entered values do not match." in result.output
    assert PASSWORD not in result.output
    with database.reading() as session:
        assert users.is_password_of(users.get(session, "Ada"), PASSWORD)
