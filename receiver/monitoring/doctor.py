"""The checks of `receiver doctor`: sources, secrets, registry, last run, gradebook."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from contract.problems import ProblemType
from foundation.cli.doctor import Finding, examine_database, examine_secrets
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.errors import Advice, DecryptionError
from foundation.text import count, format_duration, readable
from receiver.course_state import CourseStatus, overlap_of
from receiver.gradebook.base import WriteFailure
from receiver.models import MOODLE, SCHEMA, Entry
from receiver.moodle.gradebook import NO_STUDENTS, MoodleGradebook
from receiver.moodle.source import MoodleGradeSource
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.registry.history import HistoryEvent
from receiver.runs import schedule
from receiver.runs import store as runs
from receiver.sources import store as sources
from receiver.sources.base import (
    Misconfigured,
    RejectedOutcome,
    SiteOutage,
    SourceFactory,
    Transient,
)
from receiver.sources.store import CLOCK_DIFFERS, Reception
from receiver.sync import planner
from receiver.sync.fetcher import build_query
from receiver.sync.planner import Plan

# An older last run means that the sync is not scheduled, or cannot start.
LATE = timedelta(hours=24)

# A replaced token that ends within this time is a finding, unless the next run of the grade sync is
# expected to claim the new one.
ENDING = timedelta(hours=12)

# What the facts are called that were found without a webhook.
_FACTS = {
    HistoryEvent.COURSE_DELETED: ("deletion", "deletions"),
    HistoryEvent.COURSE_RESTORED: ("restoration", "restorations"),
    HistoryEvent.TOKEN_REGENERATED: ("new token", "new tokens"),
}

# The number of courses that are tried until one has students.
_MAX_TRIED = 5


def examine(
    database: Database,
    vault: Vault,
    gradebook: MoodleGradebook | None = None,
    clients: SourceFactory | None = None,
) -> list[Finding]:
    """Return the findings; without a usable database, only those about the database.

    `gradebook`: ELMS's Moodle, to check that it accepts grades. `clients`: to check that each
    Moodle responds to the requests of a run; one course of each is tried.
    """
    findings = examine_database(database, SCHEMA)
    if not all(finding.ok for finding in findings):
        return findings
    with database.reading() as session:
        entries = registry.list_added(session)
        now = db.now(session)
        plan = planner.plan_entries(entries, needs_activity=gradebook is not None, now=now)
        findings += [
            _sources(session),
            _webhooks(session, db.now(session)),
            _missed_webhooks(session, db.now(session)),
            _encrypted(session, entries, vault),
            _registry(entries, now),
            *_overlaps(entries, now),
            _last_run(session, now),
        ]
        session.expunge_all()
    if clients is not None:
        one_of_each = {entry.source.name: entry for entry in plan.to_fetch}
        findings += filter(None, (_moodle(one, clients, vault) for one in one_of_each.values()))
    if gradebook is not None:
        findings.append(_gradebook(gradebook, plan))
    return findings


def quick_checks(session: Session) -> list[Finding]:
    """Return the findings that need only a few queries: sources, webhooks and the last run."""
    now = db.now(session)
    return [
        _sources(session),
        _webhooks(session, now),
        _missed_webhooks(session, now),
        _last_run(session, now),
    ]


def _sources(session: Session) -> Finding:
    all_sources = sources.list_all(session)
    if not all_sources:
        return Finding(
            "sources", False, "none, so there are no webhooks and no grades", sources.FIRST_STEP
        )
    # A Moodle sends no webhooks of its own, so it needs no secret.
    without_secret = [
        source.name for source in all_sources if not source.secrets and source.kind != MOODLE
    ]
    if without_secret:
        return Finding(
            "sources",
            False,
            f"webhooks of {', '.join(without_secret)} cannot be verified: no secret",
            Advice("Enter the secret.", "sources add-secret", (without_secret[0],)),
        )
    return Finding("sources", True, ", ".join(source.name for source in all_sources))


def _webhooks(session: Session, now: datetime) -> Finding:
    received = sources.receptions(session)
    refused = [name for name, one in received.items() if one.is_refused(now)]
    bad = {name: one for name, one in received.items() if name in refused or one.is_silent(now)}
    detail = "; ".join(_reception(name, one, now) for name, one in (bad or received).items())
    if not bad:
        return Finding("webhooks", True, detail or "none: there are no sources")
    if refused:
        return Finding("webhooks", False, detail, _refusal_advice(refused[0], received))
    advice = Advice(
        "At eAssessment run `notifier doctor`, and check that `notifier work` runs and that the "
        "endpoint of ELMS is enabled. The page of the source shows refused webhooks. If the "
        "heartbeats were switched off, send a ping: `notifier endpoints ping ID`."
    )
    return Finding("webhooks", False, detail, advice)


def _refusal_advice(name: str, received: Mapping[str, Reception]) -> Advice:
    refusal = received[name].refusal
    if refusal is not None and refusal.reason == CLOCK_DIFFERS:
        return Advice("Synchronize the clocks of this machine and of eAssessment (NTP).")
    if refusal is not None and refusal.reason == ProblemType.SOURCE_MISMATCH:
        return Advice(
            "Set `NOTIFIER_SOURCE` at eAssessment to the name of the source here, or add a source "
            "with the name that is set there."
        )
    return Advice(
        "If eAssessment sent them, enter the secret that its endpoint of ELMS signs with.",
        "sources add-secret",
        (name,),
    )


def _reception(name: str, one: Reception, now: datetime) -> str:
    detail = f"{name}: none received yet"
    if one.last_at is not None:
        detail = f"{name}: last received {format_duration(now - one.last_at)} ago"
        if one.heartbeat is not None:
            although = "although it sends " if one.is_silent(now) else ""
            detail += f", {although}a heartbeat every {format_duration(one.heartbeat)}"
    if one.refusal is not None:
        since = readable(one.refusal.since)
        detail += f", refused with {one.refusal.status} since {since}: {one.refusal.detail}"
    return detail


def _missed_webhooks(session: Session, now: datetime) -> Finding:
    check, days = "missed_webhooks", f"in the last {history.MISSED_IN.days} days"
    missed = history.missed_webhooks(session, now=now)
    if not missed:
        return Finding(check, True, f"none {days}")
    parts = []
    for name, numbers in missed.items():
        facts = [
            count(numbers[event], *words) for event, words in _FACTS.items() if event in numbers
        ]
        parts.append(f"{', '.join(facts)} of {name}")
    advice = Advice(
        "At eAssessment check with `notifier endpoints list` that the endpoint of ELMS is enabled "
        "and gets all course events, and send again what `notifier deliveries list` shows as dead "
        "or held: what arrives is no longer counted here."
    )
    detail = f"{'; '.join(parts)}: found by the grade sync, not by a webhook, {days}"
    return Finding(check, False, detail, advice)


def _encrypted(session: Session, entries: list[Entry], vault: Vault) -> Finding:
    encrypted = [
        secret for source in sources.list_all(session) for secret in sources.ciphertexts_of(source)
    ]
    encrypted += [str(entry.encrypted_token) for entry in entries]
    return examine_secrets(vault, encrypted)


def _registry(entries: list[Entry], now: datetime) -> Finding:
    statuses = [registry.status_of(entry, now=now) for entry in entries]
    invalid = [
        entry
        for entry, status in zip(entries, statuses, strict=True)
        if status is CourseStatus.TOKEN_INVALID
    ]
    deleted = statuses.count(CourseStatus.COURSE_DELETED)
    detail = (
        f"{count(len(entries), 'course')}: {deleted} deleted, "
        f"{count(len(invalid), 'needs', 'need')} a new token"
    )
    if not invalid:
        return Finding("registry", True, detail)
    advice = registry.explain_status(invalid[0], needs_activity=False, now=now).advice
    if advice is not None and len(invalid) > 1:
        advice = replace(advice, args=("--from-file", "FILE"))
    return Finding("registry", False, detail, advice)


def _overlaps(entries: list[Entry], now: datetime) -> list[Finding]:
    """Return until when the most urgent replaced token is still good, or nothing without any.

    One whose replacement the next run is expected to claim is less urgent than any other.
    """
    ends = {
        entry: announced.ends_at
        for entry in entries
        if (announced := overlap_of(registry.state_of(entry), now=now))
    }
    if not ends:
        return []
    statuses = {one: registry.explain_status(one, needs_activity=False, now=now) for one in ends}
    entry = min(ends, key=lambda one: (statuses[one].is_claimable, ends[one]))
    status, left = statuses[entry], ends[entry] - now
    detail = (
        f"{count(len(ends), 'replaced token is', 'replaced tokens are')} still in use; "
        f"that of {entry.course_id} ends in {format_duration(left)}"
    )
    if claim := registry.failed_claim_of(entry):
        detail += f"; the new one was not claimed at {readable(claim.at)}: {claim.detail}"
    return [Finding("tokens", status.is_claimable or left > ENDING, detail, status.advice)]


def _moodle(entry: Entry, clients: SourceFactory, vault: Vault) -> Finding | None:
    """Return whether a Moodle responds to the requests for a course, or None for another site."""
    check, site, course_id = "source", entry.source.name, entry.course_id
    try:
        client, query = clients.open(entry.source), build_query(entry, vault)
    except DecryptionError as error:
        return Finding(check, False, f"{site}: {error}", error.advice)
    if not isinstance(client, MoodleGradeSource):
        return None
    match client.check_course(query):
        case None:
            return Finding(
                check, True, f"{site}: the grades of the course {course_id} can be fetched"
            )
        case RejectedOutcome(problem=problem, detail=detail):
            advice = Advice("Enter a current token.", "registry set-token", (course_id,))
            return Finding(check, False, f"{site}: course {course_id}: {problem}: {detail}", advice)
        case Misconfigured() | SiteOutage() | Transient() as failure:
            advice = failure.advice.fill("COURSE_ID", course_id).fill("SOURCE", site)
            return Finding(check, False, f"{site}: course {course_id}: {failure.detail}", advice)
        case _:
            advice = Advice("Run the grade sync, which stores this.", "sync-grades")
            return Finding(check, False, f"{site}: the course {course_id} was deleted", advice)


def _gradebook(gradebook: MoodleGradebook, plan: Plan) -> Finding:
    entry: Entry | None = None
    trouble: WriteFailure | None = gradebook.check()
    if trouble is None:
        for entry in plan.to_fetch[:_MAX_TRIED]:
            course, activity = str(entry.gradebook_course), str(entry.gradebook_activity)
            trouble = gradebook.check_course(course, activity)
            if trouble is None or trouble.advice != NO_STUDENTS:
                break
    if trouble is not None:
        course_id = entry.course_id if entry else "COURSE_ID"
        advice = trouble.advice.fill("COURSE_ID", course_id)
        return Finding("gradebook", False, trouble.detail, advice)
    if plan.without_activity:
        courses = count(len(plan.without_activity), "course has", "courses have")
        detail = f"{courses} no gradebook activity"
        return Finding("gradebook", False, detail, plan.without_activity[0].advice)
    tried = f", tried with {entry.course_id}" if entry else ""
    return Finding("gradebook", True, f"ELMS's own Moodle accepts grades{tried}")


def _last_run(session: Session, now: datetime) -> Finding:
    run = runs.latest_full(session)
    if run is None:
        advice = Advice("Run the grade sync once, and schedule it.", "sync-grades")
        return Finding("last_run", False, "the grades of all courses were never synced", advice)
    detail = f"run {run.id} started {format_duration(now - run.started_at)} ago"
    if pause := schedule.get_pause(session):
        detail += f"; paused since {readable(pause.paused_at)} by {pause.paused_by}"
        advice = Advice("Resume it when the reason of the pause is gone.", "runs resume")
        return Finding("last_run", now - pause.paused_at <= LATE, detail, advice)
    if now - run.started_at > LATE:
        advice = Advice(
            "Check that cron or a timer runs the grade sync, and its log if it does.",
            "sync-grades",
        )
        detail += ", and there was no run of all courses since"
        return Finding("last_run", False, detail, advice)
    if run.ended_at is None:
        status = runs.statuses(session, [run], now=now)[run.id]
        advice = Advice("If it was killed, the next run continues; check that one is scheduled.")
        return Finding("last_run", True, f"{detail} and is not completed: {status}", advice)
    detail += (
        f": {run.synced:,} synced, {run.unchanged:,} unchanged, "
        f"{run.skipped:,} skipped, {run.failed:,} failed"
    )
    if not (run.failed or run.stopped):  # invalid tokens are a finding of their own
        return Finding("last_run", True, detail)
    advice = Advice("See each reason and its next step.", "runs show", (str(run.id),))
    return Finding("last_run", False, detail, advice)
