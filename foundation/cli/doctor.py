"""What `doctor` finds: one line a check, what to do, and whether all is well."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from foundation.cli import output
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import SchemaError

MAX_CLOCK_DRIFT = timedelta(seconds=60)
"""Beyond this, signatures come near their tolerance of five minutes."""


@dataclass(frozen=True)
class Finding:
    """One check: what was found and, where it is not well, what to do."""

    check: str
    well: bool
    found: str
    next_step: str | None = None


def examine_database(database: Database, schema: Schema) -> list[Finding]:
    """Return what is found of the database, its schema and its clock; stop at the first fault."""
    findings: list[Finding] = []
    try:
        if database.file and not database.file.exists():
            schema.check(database)  # a look must not make the file
        with database.reading() as session:
            drift = abs(db.now(session) - datetime.now(UTC))
        findings += [
            Finding("database", True, database.engine.url.set(query={}).render_as_string()),
            _clock(drift),
        ]
        schema.check(database)
    except db.UNAVAILABLE as error:
        return [
            Finding("database", False, db.cause(error), "Check the database URL and that it runs.")
        ]
    except SchemaError as error:
        place = f"; the file is {error.file}" if error.file else ""
        return [*findings, Finding("schema", False, f"{error}{place}", error.advice)]
    return [*findings, Finding("schema", True, f"at {schema.head}")]


def _clock(drift: timedelta) -> Finding:
    seconds = drift.total_seconds()
    found = f"{seconds:.1f} s from the database's"
    if drift > MAX_CLOCK_DRIFT:
        return Finding("clock", False, found, "Set this machine's clock (NTP).")
    return Finding("clock", True, found)


def report(findings: list[Finding], *, as_json: bool) -> int:
    """Print the findings; return the exit code: 0 when all is well, else 1."""
    well = all(finding.well for finding in findings)
    if as_json:
        output.print_json({"well": well, "findings": [vars(finding) for finding in findings]})
    else:
        output.print_table(
            ("check", "", "found", "what to do"),
            [
                (
                    finding.check,
                    "ok" if finding.well else "NOT WELL",
                    finding.found,
                    finding.next_step,
                )
                for finding in findings
            ],
            empty="nothing to check",
        )
        click.echo("all is well" if well else "something needs a person: see above")
    return 0 if well else output.EXIT_REFUSED
