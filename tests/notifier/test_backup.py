"""Backups of eAssessment's database while it is written to."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import select, text

from foundation.db import backup
from foundation.db.backup import BackupError, back_up
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import SCHEMA, Course, Delivery, Event
from tests.conftest import Postgres
from tests.notifier.conftest import NINE, Store

only_postgres = pytest.mark.parametrize("database_kind", ["postgresql"])
PG_DUMP = shutil.which("pg_dump")
needs_pg_dump = pytest.mark.skipif(PG_DUMP is None, reason="pg_dump is not installed")


class Writer:
    """Adds and deletes courses, each in one transaction, until it is closed."""

    def __init__(self, database: Database) -> None:
        self.committed = 0
        self._database = database
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.wait_for_another()

    def wait_for_another(self) -> None:
        """Return when one more course was deleted."""
        with self._changed:
            before = self.committed
            assert self._changed.wait_for(lambda: self.committed > before, timeout=20)

    def close(self) -> None:
        self._closed = True
        self._thread.join()

    def _run(self) -> None:
        for number in count():
            if self._closed:
                return
            with self._database.writing() as session:
                courses.add_course(session, f"C{number}", "Algorithms", now=NINE)
                courses.delete_course(session, f"C{number}", now=NINE)
            with self._changed:
                self.committed += 1
                self._changed.notify_all()


@pytest.fixture
def restore(
    database_kind: str, request: pytest.FixtureRequest
) -> Iterator[Callable[[Path], Database]]:
    """Return a function that opens the database in a backup."""
    restored: list[Database] = []

    def opened(file: Path) -> Database:
        if database_kind == "sqlite":
            url = f"sqlite:///{file}"
        else:
            server: Postgres = request.getfixturevalue("postgres")
            url = server.bare_database("restored")
            target = url.replace("+psycopg", "")
            subprocess.run(["pg_restore", "--no-owner", f"--dbname={target}", file], check=True)
        restored.append(Database(url))
        return restored[-1]

    yield opened
    for database in restored:
        database.dispose()


@needs_pg_dump
def test_backup_under_a_running_writer_is_consistent(
    store: Store,
    restore: Callable[[Path], Database],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backup, "_STEP_PAGES", 10)
    store.add_endpoint()
    file = tmp_path / "copy"

    with closing(Writer(store.database)) as writer:
        back_up(store.database, file, lambda _: writer.wait_for_another())

    assert file.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.glob("copy*")] == [file]
    copy = restore(file)
    SCHEMA.check(copy)
    with copy.reading() as session:
        deleted = set(session.scalars(select(Course.course_id)))
        notified = set(session.scalars(select(Event.course_id).join(Delivery.event)))
        if copy.is_sqlite:
            assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    assert deleted == notified
    assert 0 < len(deleted) < writer.committed


def wrap_pg_dump(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a script run as pg_dump."""
    program = folder / "bin" / "pg_dump"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@only_postgres
@needs_pg_dump
def test_password_is_not_on_the_command_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    script = f'echo "$PGPASSWORD" "$@" > {seen}; exec {PG_DUMP} "$@"'
    wrap_pg_dump(tmp_path, monkeypatch, script)
    url = store.database.engine.url.set(password="p l'anted").update_query_dict(
        {"sslmode": "allow"}
    )

    named = Database(url.render_as_string(hide_password=False))
    back_up(named, tmp_path / "copy", lambda _: None)
    named.dispose()

    password, options = seen.read_text().split("--format", 1)
    assert password == "p l'anted "
    assert "anted" not in options
    assert "sslmode=allow" in options


@only_postgres
def test_failed_backup_leaves_no_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_pg_dump(tmp_path, monkeypatch, "echo pg_dump: error: no space left >&2; exit 1")

    with pytest.raises(BackupError, match="pg_dump: error: no space left"):
        back_up(store.database, tmp_path / "copy", lambda _: None)

    assert [*tmp_path.glob("copy*")] == []


@only_postgres
def test_command_is_named_if_pg_dump_is_missing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "copy"

    with pytest.raises(BackupError) as caught:
        back_up(store.database, file, lambda _: None)

    assert "pg_dump --format=custom" in caught.value.advice.text
    assert f"--file={file}" in caught.value.advice.text


def test_file_of_another_backup_is_kept(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "copy.partial"
    other.touch()

    with pytest.raises(BackupError, match="running or was killed"):
        back_up(store.database, tmp_path / "copy", lambda _: None)

    assert [*tmp_path.glob("copy*")] == [other]


def test_directory_is_no_file(store: Store, tmp_path: Path) -> None:
    for directory in (tmp_path, Path("/")):
        with pytest.raises(BackupError, match="is a directory"):
            back_up(store.database, directory, lambda _: None)


def test_missing_directory_is_named(store: Store, tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    with pytest.raises(BackupError) as caught:
        back_up(store.database, missing / "copy", lambda _: None)

    assert str(caught.value) == f"there is no directory {missing}"
