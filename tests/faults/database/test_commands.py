"""Commands whose database cannot be used: exit code 4 and two sentences."""

import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import Result
from sqlalchemy import text

from contract.signatures import Secret
from foundation.db.migrations import Schema
from tests.faults.database.commands import COMMANDS, COURSE, DOCTORS, WITHOUT_DATABASE
from tests.faults.database.conftest import (
    GARBAGE,
    PROGRAMS,
    SCHEMAS,
    MakeProxy,
    RunCommand,
    fill_notifier,
    fill_receiver,
    held,
    opened,
    rows,
    write_lock,
)
from tests.faults.postgres_proxy import DISK_FULL, SHUTDOWN, Break, ErrorResponse

# One command of each service that writes.
WRITING = ["notifier courses delete", "receiver registry add"]


def leaves(command: click.Command, words: str) -> Iterator[str]:
    """Yield the words of every command below one."""
    if not isinstance(command, click.Group):
        yield words
        return
    for name, child in command.commands.items():
        yield from leaves(child, f"{words} {name}")


def assert_refused(result: Result, cause: str) -> None:
    lines = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert result.exit_code == 4, result.output
    assert lines[0].startswith("error: the database ")
    assert cause in lines[0]
    assert lines[-1].startswith(" next: ")
    assert result.stdout == ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_listed(program: str) -> None:
    every = [*COMMANDS, *WITHOUT_DATABASE]
    listed = [words for words in every if words.startswith(f"{program} ")]

    assert sorted(listed) == sorted(leaves(PROGRAMS[program], program))


@pytest.fixture(scope="session")
def unknown_schemas(
    tmp_path_factory: pytest.TempPathFactory, sqlite_templates: Callable[[Schema], Path]
) -> dict[str, str]:
    """The URLs of databases at a schema that a newer release might have."""
    urls = {}
    for program, schema in SCHEMAS.items():
        path = shutil.copy(sqlite_templates(schema), tmp_path_factory.mktemp("unknown"))
        urls[program] = f"sqlite:///{path}"
        with opened(urls[program]) as database, database.writing() as session:
            session.execute(text("UPDATE alembic_version SET version_num = 'x9999'"))
    return urls


@pytest.mark.parametrize("words", COMMANDS)
def test_no_command_uses_an_unknown_schema(
    unknown_schemas: dict[str, str], run_command: RunCommand, words: str
) -> None:
    result = run_command(words, unknown_schemas[words.split()[0]])

    if words in DOCTORS:
        assert result.exit_code == 1
        assert "FAIL" in result.stdout
        assert "database of this service" in " ".join(result.stdout.split())
    else:
        assert_refused(result, "is at schema x9999, which")
        assert "database of this service" in result.stderr


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        pytest.param("closed port", "connection failed", id="closed port"),
        pytest.param("no such folder", "there is no folder", id="no such folder"),
        pytest.param("garbage", "file is not a database", id="garbage"),
    ],
)
def test_database_that_is_away_is_exit_4(
    run_command: RunCommand, tmp_path: Path, kind: str, cause: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    (tmp_path / "garbage.db").write_bytes(GARBAGE)
    url = {
        "closed port": f"postgresql://planted:planted@127.0.0.1:{port}/none",
        "no such folder": f"sqlite:///{tmp_path}/none/x.db",
        "garbage": f"sqlite:///{tmp_path}/garbage.db",
    }[kind]

    result = run_command("notifier courses list", url)

    assert_refused(result, cause)
    assert "planted" not in result.output


@pytest.fixture
def make_filled_database(make_database_url: Callable[[Schema], str]) -> Callable[[str], str]:
    """Return a function that makes the database of a program, and returns its URL."""

    def make(program: str) -> str:
        url = make_database_url(SCHEMAS[program])
        if program == "notifier":
            fill_notifier(url)
        else:
            fill_receiver(url, Secret.generate())
        return url

    return make


@pytest.mark.parametrize("words", [*WRITING, "receiver runs list"])
def test_database_that_another_holds_is_exit_4(
    make_filled_database: Callable[[str], str], run_command: RunCommand, words: str
) -> None:
    program = words.split()[0]
    url = make_filled_database(program)

    with held(url, SCHEMAS[program]):
        result = run_command(words, url)

    assert_refused(result, "lock")


@pytest.mark.parametrize("words", WRITING)
@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_file_that_another_writes_is_exit_4(
    make_filled_database: Callable[[str], str], run_command: RunCommand, words: str
) -> None:
    url = make_filled_database(words.split()[0])

    with write_lock(url):
        result = run_command(words, url)

    assert_refused(result, "database is locked")


@pytest.mark.parametrize("words", WRITING)
@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(Break.BEFORE, id="cut"),
        pytest.param(DISK_FULL, id="disk full"),
        pytest.param(SHUTDOWN, id="shutdown"),
    ],
)
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_commit_that_fails_is_exit_4(
    make_filled_database: Callable[[str], str],
    make_proxy: MakeProxy,
    run_command: RunCommand,
    words: str,
    happens: Break | ErrorResponse,
) -> None:
    program = words.split()[0]
    url = make_filled_database(program)
    before = rows(url, SCHEMAS[program])
    proxy = make_proxy(url)
    fault = proxy.on("COMMIT", happens)

    result = run_command(words, proxy.url)

    assert fault.met.is_set()
    assert_refused(result, "cannot be used")
    assert rows(url, SCHEMAS[program]) == before


def limit_files() -> None:
    """Let no file of this process grow beyond 64 kB, like a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_disk_that_becomes_full_midway_leaves_nothing(
    make_filled_database: Callable[[str], str], run_command: RunCommand, tmp_path: Path
) -> None:
    url = make_filled_database("notifier")
    before = rows(url, SCHEMAS["notifier"])
    lines = [f"{COURSE},student-{number},7.5,10\n" for number in range(2000)]
    (tmp_path / "many.csv").write_text(
        "course_id,user_id,score_given,score_maximum\n" + "".join(lines)
    )

    full = subprocess.run(
        [Path(sys.executable).parent / "notifier", "grades", "import", "many.csv"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NOTIFIER_DATABASE_URL": url},
        preexec_fn=limit_files,
    )
    after = rows(url, SCHEMAS["notifier"])
    with_space = run_command("notifier grades import", url, "many.csv")

    assert (full.returncode, full.stdout) == (4, "")
    assert "error: the database cannot be used: " in full.stderr
    assert "Traceback" not in full.stderr
    assert after == before
    assert with_space.exit_code == 0
    assert "2,000 new" in with_space.stdout
