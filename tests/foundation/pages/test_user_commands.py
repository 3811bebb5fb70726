"""`users`: who runs a service says who may sign in."""

import json
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from foundation.cli import output
from foundation.db.session import Database
from foundation.pages import users
from notifier.cli import main as notifier
from receiver.cli import main as receiver
from tests.foundation.pages.conftest import KEY, PASSWORD, Service

PROGRAMS: dict[str, click.Command] = {"notifier": notifier, "receiver": receiver}
Give = Callable[..., Result]


@pytest.fixture
def give(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> Give:
    """Return what gives a command of the service's program."""
    monkeypatch.chdir(str(tmp_path))
    prefix = service.name.upper()
    monkeypatch.setenv(f"{prefix}_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv(f"{prefix}_DATABASE_URL", database_url.replace("+psycopg", ""))
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", "planted-admin-key-0123456789abcdef")

    def run(*words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(
            PROGRAMS[service.name], ["users", *words], input=stdin, catch_exceptions=False
        )

    return run


def test_a_user_is_added_listed_changed_and_removed(give: Give, database: Database) -> None:
    told = [
        give("add", "Ada", stdin=f"{PASSWORD}\n"),
        give("list"),
        give("set-password", "ada", stdin="another one entirely\r\n"),
        give("list", "--json"),
    ]
    with database.reading() as session:
        changed = users.is_password_of(users.get(session, "Ada"), "another one entirely")
    told += [give("remove", "ADA"), give("list")]

    assert [result.exit_code for result in told] == [0] * 6
    assert changed
    assert told[0].stdout == "Ada can sign in\n"
    assert told[1].stdout.splitlines()[0].split() == ["user", "added", "password", "set"]
    assert told[2].stdout == ("ada has a new password and is signed out everywhere\n")
    (listed,) = json.loads(told[3].stdout)
    assert set(listed) == {"user", "created_at", "password_changed_at"}
    assert told[4].stdout == "Ada is removed and signed out everywhere\n"
    assert told[5].stdout.startswith("no users; add one with `")
    assert PASSWORD not in "".join(result.output for result in told)


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        pytest.param(("add", "Ada"), "short\n", "5 characters, where 12", id="a short password"),
        pytest.param(("add", "Ada"), "", "0 characters, where 12", id="no password"),
        pytest.param(("add", " "), f"{PASSWORD}\n", "cannot be a user's name", id="no name"),
        pytest.param(("remove", "Bob"), "", "there is no user 'Bob'", id="a stranger"),
        pytest.param(("set-password", "Bob"), f"{PASSWORD}\n", "no user 'Bob'", id="nobody's"),
    ],
)
def test_what_is_refused_is_a_sentence(
    give: Give, words: tuple[str, ...], stdin: str, said: str
) -> None:
    result = give(*words, stdin=stdin)

    assert result.exit_code == 1
    assert said in result.stderr
    assert " next: " in result.stderr
    assert give("list", "--json").stdout == "[]\n"


def test_at_a_prompt_the_password_is_typed_twice(
    give: Give, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    typed = f"{PASSWORD}\n{PASSWORD} no\n{PASSWORD}\n{PASSWORD}\n"
    monkeypatch.setattr(output, "_is_terminal", lambda: True)

    result = give("add", "Ada", stdin=typed)

    assert result.exit_code == 0
    assert "The two entered values do not match." in result.output
    assert PASSWORD not in result.output
    with database.reading() as session:
        assert users.is_password_of(users.get(session, "Ada"), PASSWORD)
