"""What `receiver doctor` looks at: sources, secrets, the registry, the last run, the gradebook."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from foundation.cli.doctor import Finding, examine_database
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.errors import Advice, DecryptionError
from foundation.text import count, lasted
from receiver.course_state import Status
from receiver.gradebook.base import Gradebook
from receiver.models import MOODLE, SCHEMA, Entry
from receiver.registry import entries as registry
from receiver.runs import store as runs
from receiver.runs.store import CourseResult
from receiver.sources import store as sources
from receiver.sync import planner

LATE = timedelta(hours=24)
"""A last run older than this says that nobody has scheduled the sync, or that it cannot start."""


def examine(database: Database, vault: Vault, gradebook: Gradebook | None = None) -> list[Finding]:
    """Return what is found; the database comes first, and without it there is nothing more.

    A gradebook is the Moodle that ELMS is; it is asked whether it takes grades.
    """
    findings = examine_database(database, SCHEMA)
    if not all(finding.ok for finding in findings):
        return findings
    with database.reading() as session:
        entries = registry.list_entries(session)
        unplaced = planner.plan_entries(entries, needs_activity=True).without_activity
        findings += [
            _sources(session),
            _encrypted(session, entries, vault),
            _registry(entries),
            _last_run(session, db.now(session)),
        ]
    if gradebook is not None:
        findings.append(_gradebook(gradebook, unplaced))
    return findings


def glance(session: Session) -> list[Finding]:
    """Return what a few queries find, however many courses there are: sources, the last run."""
    return [_sources(session), _last_run(session, db.now(session))]


def _sources(session: Session) -> Finding:
    every = sources.list_all(session)
    if not every:
        return Finding(
            "sources", False, "none: nobody is heard and nobody asked", sources.FIRST_STEP
        )
    # A Moodle signs no webhook itself, and need not have anybody beside it who does.
    deaf = [source.name for source in every if not source.secrets and source.kind != MOODLE]
    if deaf:
        return Finding(
            "sources",
            False,
            f"no webhook of {', '.join(deaf)} can be verified: no secret",
            Advice("Enter the secret of its endpoint.", "sources add-secret", (deaf[0],)),
        )
    return Finding("sources", True, ", ".join(source.name for source in every))


def _encrypted(session: Session, entries: list[Entry], vault: Vault) -> Finding:
    encrypted = [
        one for source in sources.list_all(session) for one in sources.encrypted_of(source)
    ]
    encrypted += [str(entry.encrypted_token) for entry in entries]
    try:
        for one in encrypted:
            vault.decrypt(one)
    except DecryptionError as error:
        return Finding("secrets", False, str(error), error.advice)
    return Finding("secrets", True, f"{len(encrypted)} sealed, all can be opened")


def _registry(entries: list[Entry]) -> Finding:
    course_statuses = [registry.course_status(entry) for entry in entries]
    waiting = [
        course_status
        for course_status in course_statuses
        if course_status.status is Status.TOKEN_INVALID
    ]
    deleted = sum(
        course_status.status is Status.COURSE_DELETED for course_status in course_statuses
    )
    found = (
        f"{count(len(entries), 'course')}, {deleted} of them deleted, "
        f"{count(len(waiting), 'needs', 'need')} a new token"
    )
    if waiting:
        return Finding("registry", False, found, waiting[0].advice)
    return Finding("registry", True, found)


def _gradebook(gradebook: Gradebook, unplaced: Sequence[CourseResult]) -> Finding:
    trouble = gradebook.check()
    if trouble is not None:
        return Finding("gradebook", False, trouble.detail, trouble.advice)
    if unplaced:
        found = f"of {count(len(unplaced), 'course')} it is not said where their grades go"
        return Finding("gradebook", False, found, unplaced[0].advice)
    return Finding("gradebook", True, "ELMS's own Moodle takes grades")


def _last_run(session: Session, now: datetime) -> Finding:
    run = runs.latest_full(session)
    if run is None:
        advice = Advice("Run the grade sync once, and schedule it.", "sync-grades")
        return Finding("last run", False, "grades of every course were never synced", advice)
    found = f"run {run.id} began {lasted(now - run.started_at)} ago"
    if now - run.started_at > LATE:
        advice = Advice(
            "Check that cron or a timer runs the grade sync, and its log for the reason if it does "
            "not.",
            "sync-grades",
        )
        return Finding("last run", False, f"{found}, and none of every course since", advice)
    if run.ended_at is None:
        status = runs.statuses(session, [run], now=now)[run.id]
        advice = Advice("If it was killed, the next run continues; check that one is scheduled.")
        return Finding("last run", True, f"{found} and has not ended: {status}", advice)
    found += (
        f": {run.synced} synced, {run.unchanged} unchanged, "
        f"{run.skipped} skipped, {run.failed} failed"
    )
    if run.exit_code:
        advice = Advice(
            "See the reason of each course and what to do.", "runs show", (str(run.id),)
        )
        return Finding("last run", False, found, advice)
    return Finding("last run", True, found)
