"""Every command of both programs on a database that cannot be used: exit 4 and two sentences."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import Result

from foundation.db.migrations import Schema
from tests.faults.database.conftest import SCHEMAS, held, rows, run_sql, write_lock
from tests.faults.database.every_command import COURSE, DOCTORS, EVERY, PROGRAMS, WRITING
from tests.faults.postgres_proxy import DISK_FULL, SHUTDOWN, Break, PostgresProxy, Says


def leaves(command: click.Command, words: str) -> Iterator[str]:
    """Return the words of every command below one."""
    if not isinstance(command, click.Group):
        yield words
        return
    for name, child in command.commands.items():
        yield from leaves(child, f"{words} {name}")


def refused(result: Result, words: str, cause: str) -> None:
    """Check that a command said in two sentences why it did nothing, and ended with 4."""
    assert "Traceback" not in result.output
    if words in DOCTORS and result.exit_code == 1:
        assert "FAIL" in result.stdout
        return
    said = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert result.exit_code == 4, result.output
    assert said[0].startswith("error: the database ")
    assert cause in said[0]
    *which, step = said[1:]
    assert which == [] or which[0].startswith("       the file is ")
    assert len(which) < 2
    assert step.startswith(" next: ")
    assert result.stdout == "" or words == "receiver sync-grades"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_tried(program: str) -> None:
    expected = sorted(words for words in EVERY if words.startswith(f"{program} "))

    assert sorted(leaves(PROGRAMS[program], program)) == expected


@pytest.mark.parametrize("words", EVERY)
@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        pytest.param("nobody listens", "connection failed", id="nobody listens"),
        pytest.param("no such folder", "there is no folder", id="no such folder"),
        pytest.param("garbage", "file is not a database", id="garbage"),
    ],
)
def test_a_database_that_is_away_is_exit_4(
    run_command: Callable[[str, str], Result], tmp_path: Path, words: str, kind: str, cause: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    (tmp_path / "garbage.db").write_bytes(b"once this was a database" * 100)
    url = {
        "nobody listens": f"postgresql://planted:planted@127.0.0.1:{port}/none",
        "no such folder": f"sqlite:///{tmp_path}/none/x.db",
        "garbage": f"sqlite:///{tmp_path}/garbage.db",
    }[kind]

    result = run_command(words, url)

    refused(result, words, cause)
    assert "planted" not in result.output


@pytest.mark.parametrize("words", EVERY)
def test_a_database_that_another_holds_is_exit_4(
    make_filled_database: Callable[[str], str],
    run_command: Callable[[str, str], Result],
    words: str,
) -> None:
    program = words.split()[0]
    url = make_filled_database(program)
    before = rows(url, SCHEMAS[program])

    with held(url, SCHEMAS[program]):
        result = run_command(words, url)

    refused(result, words, "lock")
    assert rows(url, SCHEMAS[program]) == before


@pytest.mark.parametrize("words", WRITING)
@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_file_that_another_writes_is_exit_4(
    make_filled_database: Callable[[str], str],
    run_command: Callable[[str, str], Result],
    words: str,
) -> None:
    program = words.split()[0]
    url = make_filled_database(program)
    before = rows(url, SCHEMAS[program])

    with write_lock(url):
        result = run_command(words, url)

    refused(result, words, "database is locked")
    assert rows(url, SCHEMAS[program]) == before


@pytest.mark.parametrize("words", WRITING)
@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(Break.BEFORE, id="cut at COMMIT"),
        pytest.param(DISK_FULL, id="disk full"),
        pytest.param(SHUTDOWN, id="shut down"),
    ],
)
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_commit_that_fails_is_exit_4(
    make_filled_database: Callable[[str], str],
    make_proxy: Callable[[str], PostgresProxy],
    run_command: Callable[[str, str], Result],
    words: str,
    happens: Break | Says,
) -> None:
    program = words.split()[0]
    url = make_filled_database(program)
    before = rows(url, SCHEMAS[program])
    proxy = make_proxy(url)
    fault = proxy.on("COMMIT", happens)

    result = run_command(words, proxy.url)

    assert fault.met.is_set()
    refused(result, words, "cannot be used")
    assert rows(url, SCHEMAS[program]) == before


def limit_files() -> None:
    """Let no file of this process grow beyond 64 kB, as a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_disk_that_becomes_full_midway_leaves_nothing(
    make_filled_database: Callable[[str], str], run_command: Callable[..., Result], tmp_path: Path
) -> None:
    url = make_filled_database("notifier")
    before = rows(url, SCHEMAS["notifier"])
    lines = [f"{COURSE},student-{number},7.5,10\n" for number in range(5000)]
    (tmp_path / "many.csv").write_text(
        "course_id,user_id,score_given,score_maximum\n" + "".join(lines)
    )
    command = Path(sys.executable).parent / "notifier"

    full = subprocess.run(
        [command, "grades", "import", "many.csv"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NOTIFIER_DATABASE_URL": url},
        preexec_fn=limit_files,
    )
    after = rows(url, SCHEMAS["notifier"])
    with_room = run_command("notifier grades import", url, "many.csv")

    assert (full.returncode, full.stdout) == (4, "")
    assert "error: the database cannot be used: " in full.stderr
    assert "Traceback" not in full.stderr
    assert after == before
    assert with_room.exit_code == 0
    assert "5,000 new" in with_room.stdout


OTHER = {"notifier": "receiver", "receiver": "notifier"}
LAST_TABLE = {"notifier": "replays", "receiver": "sync_lease"}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("kind", "cause", "next_step"),
    [
        pytest.param("empty", "is at schema none", "`{program} db upgrade`", id="empty"),
        pytest.param(
            "lost",
            "has no schema version, but it has",
            "from its backup",
            id="one that lost its own",
        ),
        pytest.param(
            "unknown", "is at schema x9999, which", "database of this service", id="a newer one's"
        ),
        pytest.param(
            "other", "is at schema {head}, which", "database of this service", id="the other's"
        ),
        pytest.param(
            "half", "but lacks the tables {table}", "`{program} db check`", id="half of it"
        ),
    ],
)
def test_no_command_works_on_a_schema_that_is_not_its_own(
    make_own_url: Callable[[Schema], str],
    run_command: Callable[[str, str], Result],
    program: str,
    kind: str,
    cause: str,
    next_step: str,
) -> None:
    schema = SCHEMAS[OTHER[program] if kind == "other" else program]
    url = make_own_url(schema)
    table = LAST_TABLE[program]
    match kind:
        case "empty":
            for name in [*reversed(schema.metadata.sorted_tables), "alembic_version"]:
                run_sql(url, f"DROP TABLE {name}")
        case "lost":
            run_sql(url, "DROP TABLE alembic_version")
        case "unknown":
            run_sql(url, "UPDATE alembic_version SET version_num = 'x9999'")
        case "half":
            run_sql(url, f"DROP TABLE {table}")
    mends = {"notifier db upgrade", "receiver db upgrade"} if kind == "empty" else set()
    tried = sorted({words for words in EVERY if words.startswith(f"{program} ")} - mends)

    results = {words: run_command(words, url) for words in tried}

    for words, result in results.items():
        refused(result, words, cause.format(head=schema.head, table=table))
        said = result.stdout if words in DOCTORS else result.stderr
        assert next_step.format(program=program) in " ".join(said.split())
