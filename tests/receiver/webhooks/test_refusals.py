"""The memory of refusals: the last one of each source, and how much is kept."""

from datetime import timedelta

from receiver.errors import SignatureRefusedError, SourceMismatchError
from receiver.webhooks.refusals import LastRefusal, RefusedWebhooks
from tests.receiver.conftest import NINE

MINUTE = timedelta(minutes=1)


def test_last_refusal_lasts_from_the_first_of_its_reason() -> None:
    refusals = RefusedWebhooks()
    refusals.record("one", SourceMismatchError("another source"), now=NINE)

    for minute in (1, 2):
        refusals.record("one", SignatureRefusedError(f"{minute}"), now=NINE + minute * MINUTE)

    assert refusals.last("one") == LastRefusal(
        401, "signature-refused", "2", NINE + MINUTE, NINE + 2 * MINUTE, 2
    )


def test_accepted_webhook_ends_the_refusals_of_its_source() -> None:
    refusals = RefusedWebhooks()
    for name in ("one", "two"):
        refusals.record(name, SignatureRefusedError("no match"), now=NINE)

    refusals.forget("one")

    assert (refusals.last("one"), bool(refusals.last("two"))) == (None, True)


def test_memory_is_bounded() -> None:
    refusals = RefusedWebhooks()

    for number in range(1001):
        refusals.record(f"source-{number}", SignatureRefusedError("x" * 10_000), now=NINE)
    refusals.record("n" * 101, SignatureRefusedError("too long"), now=NINE)

    last = refusals.last("source-1000")
    assert (refusals.last("source-0"), refusals.last("n" * 101)) == (None, None)
    assert last is not None
    assert len(last.detail) == 300
    assert refusals.family().samples[0].value == 1002
