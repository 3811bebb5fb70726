"""`doctor`: the checks of the database, and the report."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from foundation.cli import doctor
from foundation.cli.doctor import Finding
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import Advice, fields_of
from notifier.config import Settings

GOOD = Finding("database", True, "sqlite:///a.db")
BAD = Finding("clock", False, "75.0 s from the database's", Advice("Set the clock."))
SETTINGS = "all variables NOTIFIER_… are settings"
UNKNOWN = "NOTIFIER_PROT is not a setting, but NOTIFIER_PORT is; NOTIFIER_X is not a setting"
only_postgres = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        pytest.param((), SETTINGS, id="none"),
        pytest.param(("NOTIFIER_PROT", "NOTIFIER_X", "RECEIVER_X"), UNKNOWN, id="unknown"),
    ],
)
def test_unknown_variables_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: tuple[str, ...], found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in variables:
        monkeypatch.setenv(name, "hunter2")

    finding = doctor.examine_settings(Settings)

    assert (finding.check, finding.ok, finding.found) == ("settings", not variables, found)
    assert (finding.advice is None) is finding.ok


@pytest.mark.parametrize(
    ("mode", "ok"),
    [
        pytest.param(None, True, id="no file"),
        pytest.param(0o600, True, id="owner"),
        pytest.param(0o640, False, id="group"),
        pytest.param(0o604, False, id="others"),
    ],
)
def test_env_file_that_others_can_read_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int | None, ok: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    if mode is not None:
        file.touch()
        file.chmod(mode)

    finding = doctor.examine_env_file(Settings)

    assert finding.ok is ok
    assert finding.advice == (None if ok else Advice(f"Run `chmod 600 {file}`."))


def test_database_in_order_passes_all_checks(database: Database, schema: Schema) -> None:
    findings = doctor.examine_database(database, schema)

    assert [finding.check for finding in findings] == ["database", "clock", "schema"]
    assert all(finding.ok and finding.advice is None for finding in findings)
    assert findings[2].found == "at 0001"


@only_postgres
def test_password_of_the_database_is_hidden(database: Database, schema: Schema) -> None:
    url = database.engine.url.set(username="postgres", password="hunter2")
    named = Database(url.render_as_string(hide_password=False))

    found = doctor.examine_database(named, schema)[0].found

    named.dispose()
    assert found.startswith("postgresql://postgres:***@")


@pytest.mark.parametrize("exists", [True, False], ids=["empty file", "no file"])
def test_missing_schema_is_found_without_creating_the_file(
    new_sqlite: Database, schema: Schema, exists: bool
) -> None:
    assert new_sqlite.file is not None
    if not exists:
        new_sqlite.file.unlink()

    *others, finding = doctor.examine_database(new_sqlite, schema)

    assert [other.ok for other in others] == [True, True] * exists
    assert finding == Finding(
        "schema",
        False,
        f"the database is at schema none, this program needs 0001; the file is {new_sqlite.file}",
        Advice("Upgrade the database, then start again.", "db upgrade"),
    )
    assert new_sqlite.file.exists() is exists


def test_unavailable_database_is_the_only_finding(schema: Schema) -> None:
    away = Database("postgresql+psycopg://user:hunter2@127.0.0.1:1/none", timeout=1)

    (finding,) = doctor.examine_database(away, schema)

    assert (finding.check, finding.ok) == ("database", False)
    assert "connection failed" in finding.found
    assert "hunter2" not in finding.found
    assert finding.advice is not None


@only_postgres
def test_other_clock_than_the_database_is_found(database: Database, schema: Schema) -> None:
    with database.reading() as session:
        session.connection()

    with freeze_time(datetime.now(UTC) + timedelta(hours=1)):
        clock = doctor.examine_database(database, schema)[1]

    assert (clock.check, clock.ok) == ("clock", False)
    assert clock.found.endswith("difference to the database's clock")
    assert 3595 < float(clock.found.split()[0]) < 3605
    assert clock.advice is not None


def test_report_escapes_what_others_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.report([Finding("endpoints", False, "\x1b[31m", Advice("Fix it."))], as_json=False)

    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("findings", "code", "lines"),
    [
        pytest.param([GOOD], 0, ["OK", "All checks passed."], id="good"),
        pytest.param(
            [GOOD, BAD],
            1,
            ["FAIL", "Set the clock.", f"Action needed: {BAD.check}: 75.0 s from"],
            id="bad",
        ),
    ],
)
def test_report_is_a_table_with_a_verdict_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], findings: list[Finding], code: int, lines: list[str]
) -> None:
    assert doctor.report(findings, as_json=False) == code

    printed = capsys.readouterr().out
    assert [line for line in lines if line not in printed] == []
    assert printed.splitlines()[1].split()[1] == lines[0]


@pytest.mark.parametrize(("findings", "code"), [([GOOD], 0), ([GOOD, BAD], 1)])
def test_report_as_json_has_the_same_content(
    capsys: pytest.CaptureFixture[str], findings: list[Finding], code: int
) -> None:
    assert doctor.report(findings, as_json=True) == code

    assert json.loads(capsys.readouterr().out) == {
        "ok": code == 0,
        "findings": [
            {"check": one.check, "ok": one.ok, "detail": one.found, **fields_of(one.advice)}
            for one in findings
        ],
    }
