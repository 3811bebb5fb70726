"""The report of `doctor`: a line for each check, with the next step where it failed."""

import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from foundation import config
from foundation.cli import output
from foundation.config import ServiceSettings
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import Advice, DatabaseSetupError, DecryptionError, fields_of
from foundation.responses import CheckResponse, DoctorResponse
from foundation.text import printable

# Signatures tolerate five minutes.
MAX_CLOCK_DRIFT = timedelta(seconds=60)


@dataclass(frozen=True)
class Finding:
    """The result of one check, and what to do if it failed; `check` is a code."""

    check: str
    ok: bool
    found: str
    advice: Advice | None = None

    @property
    def title(self) -> str:
        """The check as people read it."""
        return self.check.replace("_", " ")


def examine_settings(settings: type[ServiceSettings]) -> Finding:
    """Return whether every variable with the prefix of the settings is one of them."""
    unknown = config.unknown_variables(settings)
    if not unknown:
        prefix = config.variable(settings, "")
        return Finding("settings", True, f"all variables {prefix}… are settings")
    named = (
        f"{name} is not a setting" + (f", but {meant} is" if meant else "")
        for name, meant in unknown.items()
    )
    advice = Advice("Correct the name, or remove the variable from the environment or .env.")
    return Finding("settings", False, "; ".join(named), advice)


def examine_env_file(settings: type[ServiceSettings]) -> Finding:
    """Return whether only its owner can read .env, which holds secrets."""
    check, file = "env_file", config.env_file(settings)
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return Finding(check, True, "there is none; settings are read from the environment")
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(check, True, f"only its owner can access {file}")
    advice = Advice(f"Run `chmod 600 {shlex.quote(str(file))}`.")
    return Finding(check, False, f"others than its owner can access {file} (mode {mode:o})", advice)


def examine_database(database: Database, schema: Schema) -> list[Finding]:
    """Return the findings about the database, its schema and its clock, up to the first failure."""
    findings: list[Finding] = []
    check = "schema"
    try:
        if database.file and not database.file.exists():
            schema.check(database)
        with database.reading() as session:
            drift = abs(db.now(session) - datetime.now(UTC))
        is_synchronized = drift <= MAX_CLOCK_DRIFT
        findings += [
            Finding("database", True, _url(database)),
            Finding(
                "clock",
                is_synchronized,
                f"{drift.total_seconds():.1f} s difference to the database's clock",
                None if is_synchronized else Advice("Synchronize this machine's clock (NTP)."),
            ),
        ]
        schema.check(database)
        findings.append(Finding("schema", True, f"at {schema.head}"))
        check = "database_writes"
        database.check_writable()
    except db.UNAVAILABLE as error:
        advice = Advice("Check the database URL, and that the database runs and takes writes.")
        return [Finding("database", False, db.cause(error), advice)]
    except DatabaseSetupError as error:
        file_hint = f"; the file is {error.file}" if error.file else ""
        return [*findings, Finding(check, False, f"{error}{file_hint}", error.advice)]
    return findings


def _url(database: Database) -> str:
    """Return the URL of a database as the settings have it, without password and parameters."""
    url = database.engine.url
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string()


def examine_secrets(vault: Vault, encrypted: Sequence[str]) -> Finding:
    """Return whether all encrypted secrets can be decrypted."""
    try:
        for ciphertext in encrypted:
            vault.decrypt(ciphertext)
    except DecryptionError as error:
        return Finding("secrets", False, str(error), error.advice)
    return Finding("secrets", True, f"{len(encrypted):,} encrypted, all can be decrypted")


def report(findings: list[Finding], *, as_json: bool) -> int:
    """Print the findings, as a table the failed ones first; return the exit code.

    It is 0 if all checks passed, else 1.
    """
    failed = [finding for finding in findings if not finding.ok]
    if as_json:
        checks = [
            CheckResponse(check=item.check, ok=item.ok, detail=item.found, **fields_of(item.advice))
            for item in findings
        ]
        output.print_json(DoctorResponse(ok=not failed, findings=checks))
    else:
        output.print_table(
            ("check", "result", "found", "next step"),
            [
                (item.title, "OK" if item.ok else "FAIL", item.found, output.next_step(item.advice))
                for item in sorted(findings, key=lambda item: item.ok)
            ],
            empty="No checks.",
        )
        # The last line, because the table may be longer than the terminal.
        first = f"{failed[0].title}: {printable(failed[0].found)}" if failed else ""
        click.echo(f"Action needed: {first}" if failed else "All checks passed.")
    return output.EXIT_REFUSED if failed else 0
