"""What asks the sources, of each kind, as the settings have it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from contract.tokens import MoodleToken, Token
from foundation import tracing
from foundation.db import session as db
from receiver.course_state import CourseStatus
from receiver.errors import TokenNotTakenError
from receiver.gradebook.base import Gradebook
from receiver.models import API, MOODLE, Entry, Source
from receiver.moodle.client import MOST_BYTES
from receiver.moodle.gradebook import MoodleGradebook
from receiver.moodle.source import MoodleGradeSource
from receiver.registry import bulk
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.registry.history import Actor
from receiver.services import Services
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import MAX_ANSWER_BYTES, Exchange
from receiver.sync import planner, replacing, token_check
from receiver.sync.run import Kinds


@dataclass(frozen=True)
class Unproven:
    """It cannot be told whether a token is good: why, and what to do."""

    detail: str
    next_step: str


@dataclass(frozen=True)
class NotTaken:
    """A line of a file whose token is not to be held, and why."""

    entry_id: int
    wanted: RegistryRow
    why: TokenNotTakenError


@contextmanager
def opened(here: Services, *, most_seconds: float | None = None) -> Iterator[Kinds]:
    """Open what asks sources, of each kind; closed at the end.

    `most_seconds` is how long one request may take where somebody waits for it.
    """
    with ExitStack() as stack:
        client = stack.enter_context(EAssessmentClient(_exchange(here, most_seconds)))

        def moodle(source: Source) -> MoodleGradeSource:
            exchange = _exchange(here, most_seconds, most_bytes=MOST_BYTES)
            stack.callback(exchange.close)
            encrypted = source.encrypted_site_token
            site_token = MoodleToken.parse(here.vault.decrypt(encrypted)) if encrypted else None
            return MoodleGradeSource(exchange, site_token=site_token, now=lambda: datetime.now(UTC))

        yield {API: lambda _: client, MOODLE: moodle}


@contextmanager
def gradebook(here: Services) -> Iterator[Gradebook | None]:
    """Open the Moodle that ELMS is, for one run; None where grades go into ELMS's database."""
    if not here.settings.elms_is_moodle:
        yield None
        return
    token = MoodleToken.parse(here.settings.gradebook_token.get_secret_value())
    with closing(_exchange(here, most_bytes=MOST_BYTES)) as exchange:
        yield MoodleGradebook(exchange, url=here.settings.gradebook_url, token=token)


def prove(here: Services, kinds: Kinds, entry: Entry, *, actor: Actor) -> CourseStatus | Unproven:
    """Ask a source about the token that is held for an entry, and return where that stands then.

    No session may be open.
    """
    source = kinds[entry.source.kind](entry.source)
    [heard] = token_check.prove(
        here.database, {entry.source.name: source}, [entry], vault=here.vault, actor=actor
    )
    match heard.outcome:
        case Transient(detail=detail):
            step = "The token is kept. Enter it again when eAssessment answers."
            return Unproven(detail, step)
        case (
            Misconfigured(detail=detail, next_step=step) | SiteOutage(detail=detail, next_step=step)
        ):
            return Unproven(detail, step)
    with here.database.reading() as session:
        known = registry.get_by_id(session, entry.id)
        return planner.course_status(known, places=here.settings.elms_is_moodle)


def enter(
    here: Services,
    entry_id: int,
    token: Token,
    *,
    actor: Actor,
    most_seconds: float | None = None,
) -> Entry:
    """Hold another token for an entry, and return it; it belongs to no session.

    Raises TokenNotTakenError if the token is not known to be good, and the one held is: who enters
    another one at the same time drives no good one out either. No session may be open.
    """
    asked_over: str | None = None
    while True:
        with here.database.writing() as session:
            entry = registry.get_locked(session, entry_id)
            risky = replacing.is_risky(entry, token) and entry.stored_token_id != asked_over
            if not risky:
                now = db.now(session)
                registry.set_token(session, entry, token, vault=here.vault, actor=actor, now=now)
            session.expunge_all()
        if not risky:
            return entry
        asked_over = entry.stored_token_id
        _refuse_worse(here, entry, token, actor=actor, most_seconds=most_seconds)


def not_taken(here: Services, wanted: Sequence[RegistryRow], *, actor: Actor) -> list[NotTaken]:
    """Return of which courses of a file the tokens are not to be held; their sites are asked.

    No session may be open.
    """
    with here.database.reading() as session:
        risky = {
            entry.id: (entry, one)
            for one, entry in bulk.find_added(session, wanted)
            if one.token is not None and replacing.is_risky(entry, one.token)
        }
    pairs = [(entry, one.token) for entry, one in risky.values() if one.token is not None]
    if not pairs:
        return []
    with opened(here) as kinds:
        refused = replacing.check(
            here.database,
            kinds,
            pairs,
            vault=here.vault,
            actor=actor,
            concurrency=here.settings.sync_concurrency,
        )
    return [NotTaken(number, risky[number][1], why) for number, why in refused.items()]


def _refuse_worse(
    here: Services, entry: Entry, token: Token, *, actor: Actor, most_seconds: float | None
) -> None:
    with opened(here, most_seconds=most_seconds) as kinds:
        refused = replacing.check(
            here.database, kinds, [(entry, token)], vault=here.vault, actor=actor
        )
    for refusal in refused.values():
        raise refusal


def _exchange(
    here: Services, most_seconds: float | None = None, *, most_bytes: int = MAX_ANSWER_BYTES
) -> Exchange:
    """Return what keeps the settings' times, trusts whom they name and sends the trace on."""
    total = here.settings.request_deadline
    return Exchange(
        connect_timeout=here.settings.connect_timeout,
        read_timeout=here.settings.read_timeout,
        total=total if most_seconds is None else min(total, most_seconds),
        bundle=here.settings.ca_bundle,
        connections=here.settings.sync_concurrency,
        span=tracing.current(),
        most_bytes=most_bytes,
    )
