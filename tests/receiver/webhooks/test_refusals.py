"""The memory of refusals: the last one of each source, how much is kept, and what is stored."""

from datetime import timedelta

import pytest

from contract.signatures import NoMatchError, TimestampError
from receiver.errors import SignatureRefusedError, SourceMismatchError
from receiver.sources import store as sources
from receiver.sources.store import LastRefusal, Reception
from receiver.webhooks.refusals import RefusedWebhooks
from tests.receiver.conftest import NINE, Store, make_heartbeat

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NEVER = Reception(None, None)


def make_refusal(minutes: int = 0, since: int = 0, reason: str = "other") -> LastRefusal:
    """Return a refusal of this many minutes after nine."""
    return LastRefusal(401, reason, "no match", NINE + since * MINUTE, NINE + minutes * MINUTE)


def test_last_refusal_lasts_from_the_first_of_its_reason() -> None:
    refusals = RefusedWebhooks()
    refusals.record("one", SourceMismatchError("another source"), now=NINE)

    for minute in (1, 2):
        refusals.record("one", SignatureRefusedError(f"{minute}"), now=NINE + minute * MINUTE)

    assert refusals.last("one", NEVER) == LastRefusal(
        401, "signature-refused", "2", NINE + MINUTE, NINE + 2 * MINUTE
    )


def test_accepted_webhook_ends_the_refusals_of_its_source() -> None:
    refusals = RefusedWebhooks()
    for name in ("one", "two"):
        refusals.record(name, SignatureRefusedError("no match"), now=NINE)

    refusals.forget("one")

    assert (refusals.last("one", NEVER), bool(refusals.last("two", NEVER))) == (None, True)


def test_what_another_process_stored_or_accepted_counts() -> None:
    refusals = RefusedWebhooks()
    refusals.record("one", SignatureRefusedError("no match"), now=NINE)

    stored = refusals.last("one", Reception(None, None, None, make_refusal(1)))
    accepted = refusals.last("one", Reception(NINE + MINUTE, None))

    assert (stored, accepted) == (make_refusal(1), None)


def test_memory_is_bounded() -> None:
    refusals = RefusedWebhooks()

    for number in range(1001):
        refusals.record(f"source-{number}", SignatureRefusedError("x" * 10_000), now=NINE)
    refusals.record("n" * 101, SignatureRefusedError("too long"), now=NINE)

    last = refusals.last("source-1000", NEVER)
    assert (refusals.last("source-0", NEVER), refusals.last("n" * 101, NEVER)) == (None, None)
    assert last is not None
    assert len(last.detail) == 300
    assert refusals.family().samples[0].value == 1002


def test_memory_of_what_was_stored_is_bounded() -> None:
    refusals = RefusedWebhooks()

    for number in range(1001):
        refusals.record(f"source-{number}", SourceMismatchError("other name"), now=NINE)

    again = [
        refusals.record(name, SourceMismatchError("other name"), now=NINE)
        for name in ("source-1000", "source-0")
    ]
    assert [one is not None for one in again] == [False, True]


def test_refusal_for_its_secret_name_or_clock_is_stored_once_a_minute() -> None:
    refusals = RefusedWebhooks()

    def is_stored(seconds: int, cause: Exception | None = None) -> bool:
        error = SignatureRefusedError("no match") if cause else SourceMismatchError("other name")
        error.__cause__ = cause
        return refusals.record("one", error, now=NINE + timedelta(seconds=seconds)) is not None

    assert is_stored(0, NoMatchError("x"))
    assert [is_stored(59), is_stored(60)] == [False, True]
    assert is_stored(120, TimestampError("x"))
    assert not is_stored(200, ValueError("any other cause"))


def test_refusal_after_an_accepted_webhook_is_stored() -> None:
    refusals = RefusedWebhooks()
    refusals.record("one", SourceMismatchError("other name"), now=NINE)

    refusals.forget("one")

    later = NINE + timedelta(seconds=2)
    assert refusals.record("one", SourceMismatchError("other name"), now=later)
    assert not refusals.record("one", SourceMismatchError("other name"), now=later)


@pytest.mark.parametrize(
    ("reason", "received", "since"),
    [
        pytest.param("other", False, 0, id="the same reason"),
        pytest.param("another", False, 2, id="another reason"),
        pytest.param("other", True, 2, id="something was received"),
    ],
)
def test_stored_refusal_lasts_from_the_first_of_its_reason(
    store: Store, reason: str, received: bool, since: int
) -> None:
    store.add_source("one")
    with store.database.writing() as session:
        sources.store_refusal(session, "one", make_refusal(), now=NINE)
        sources.store_refusal(session, "gone", make_refusal(), now=NINE)
    if received:
        store.receive("msg_1", make_heartbeat(), at=NINE + MINUTE)

    with store.database.writing() as session:
        refusal = make_refusal(reason=reason)
        sources.store_refusal(session, "one", refusal, now=NINE + 2 * MINUTE)
        stored = sources.receptions(session)["one"].refusal

    assert stored == make_refusal(2, since, reason)


@pytest.mark.parametrize(
    ("last_at", "is_refused"),
    [(None, True), (NINE - HOUR, False), (NINE - HOUR - MINUTE, True)],
    ids=["never", "an interval ago", "longer ago"],
)
def test_single_refusal_is_no_fault_until_a_heartbeat_is_missing(
    last_at: timedelta | None, is_refused: bool
) -> None:
    reception = Reception(last_at, HOUR, None, make_refusal())

    assert reception.is_refused(NINE) is is_refused


@pytest.mark.parametrize(
    ("started", "silent"),
    [(None, True), (-3, True), (-1, False), (9000, True)],
    ids=["unknown", "long", "short", "by a wrong clock"],
)
def test_silence_before_the_start_does_not_count(started: int | None, silent: bool) -> None:
    since = None if started is None else NINE + started * HOUR

    assert Reception(NINE - 5 * HOUR, HOUR, since).is_silent(NINE) is silent
