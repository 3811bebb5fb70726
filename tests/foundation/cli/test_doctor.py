"""What `doctor` finds: one line a check, what to do, and whether all is well."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from foundation.cli import doctor
from foundation.cli.doctor import Finding
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import Advice, fields_of

WELL = Finding("database", True, "sqlite:///a.db")
UNWELL = Finding("clock", False, "75.0 s from the database's", Advice("Set the clock."))


def test_a_database_in_order_is_well(database: Database, ground: Schema) -> None:
    findings = doctor.examine_database(database, ground)

    assert [finding.check for finding in findings] == ["database", "clock", "schema"]
    assert all(finding.ok and finding.advice is None for finding in findings)
    assert findings[2].found == "at 0001"


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_database_is_named_without_its_password(database: Database, ground: Schema) -> None:
    url = database.engine.url.set(username="postgres", password="hunter2")
    named = Database(url.render_as_string(hide_password=False))

    found = doctor.examine_database(named, ground)[0].found

    named.dispose()
    assert "hunter2" not in found
    assert found.startswith("postgresql+psycopg://postgres:***@")


def test_a_schema_that_is_missing_is_told_with_its_command(
    new_sqlite: Database, ground: Schema
) -> None:
    assert new_sqlite.file is not None
    new_sqlite.file.touch()

    findings = doctor.examine_database(new_sqlite, ground)

    assert [finding.ok for finding in findings] == [True, True, False]
    assert findings[2] == Finding(
        "schema",
        False,
        f"the database is at schema none, this program needs 0001; the file is {new_sqlite.file}",
        Advice("Upgrade the database, then start again.", "db upgrade"),
    )


def test_a_look_at_a_file_that_is_not_there_does_not_make_it(
    new_sqlite: Database, ground: Schema
) -> None:
    [finding] = doctor.examine_database(new_sqlite, ground)

    assert (finding.check, finding.ok) == ("schema", False)
    assert new_sqlite.file is not None
    assert str(new_sqlite.file) in finding.found
    assert not new_sqlite.file.exists()


def test_a_database_that_is_away_is_the_only_finding(ground: Schema) -> None:
    away = Database("postgresql+psycopg://nobody:hunter2@127.0.0.1:1/none", timeout=1)

    findings = doctor.examine_database(away, ground)

    (finding,) = findings
    assert (finding.check, finding.ok) == ("database", False)
    assert "connection failed" in finding.found
    assert "hunter2" not in finding.found
    assert finding.advice is not None


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_clock_that_differs_from_the_databases_is_told(
    database: Database, ground: Schema
) -> None:
    with database.reading() as session:
        session.connection()

    with freeze_time(datetime.now(UTC) + timedelta(hours=1)):
        clock = doctor.examine_database(database, ground)[1]

    assert (clock.check, clock.ok) == ("clock", False)
    assert clock.found.endswith("difference to the database's clock")
    assert 3595 < float(clock.found.split()[0]) < 3605
    assert clock.advice is not None


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.report([WELL], as_json=False)

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert lines[1] == ["database", "OK", "sqlite:///a.db", "-"]
    assert lines[-1] == ["All", "checks", "passed."]


def test_one_fault_needs_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.report([WELL, UNWELL], as_json=False)

    printed = capsys.readouterr().out
    assert code == 1
    assert "FAIL" in printed
    assert "Set the clock." in printed
    assert printed.endswith("Action needed: see above.\n")


@pytest.mark.parametrize(("findings", "code"), [([WELL], 0), ([WELL, UNWELL], 1)])
def test_programs_read_the_same(
    capsys: pytest.CaptureFixture[str], findings: list[Finding], code: int
) -> None:
    exit_code = doctor.report(findings, as_json=True)

    document = json.loads(capsys.readouterr().out)
    assert exit_code == code
    assert document == {
        "ok": code == 0,
        "findings": [
            {"check": one.check, "ok": one.ok, "found": one.found, **fields_of(one.advice)}
            for one in findings
        ],
    }
