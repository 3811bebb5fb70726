"""Probes of a receiver: pings signed in right and wrong ways, and what the responses say of it."""

import base64
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

from contract import signatures
from contract.signatures import SIGNATURE_HEADER, TOLERANCE, Secret
from foundation.errors import Advice
from foundation.text import count, format_duration, problem_detail
from notifier.webhooks import failure_advice
from notifier.webhooks.retry_policy import AttemptResult, Failure, WebhookResponse

# How old the signature of the stale probe is: more than any clock is likely to be wrong.
STALE_AGE = timedelta(hours=1)
# The difference of a receiver's clock from ours that is worth a finding; events are refused from
# `TOLERANCE` on.
MAX_CLOCK_OFFSET = timedelta(seconds=60)
# Characters of a signature that the shortened probe leaves.
_SHORTENED = 8
# Characters of a response's body in a finding.
_EXCERPT = 200
# What the `Date` header leaves out, and a response may take.
_DATE_PRECISION = timedelta(seconds=5)
# Statuses that concern the route or the server and not the signature.
_OF_THE_ROUTE = frozenset({404, 405, 408, 410, 429})


class Probe(StrEnum):
    """A ping that a receiver must accept or refuse, in the order in which they are sent.

    Correct ones are the last: a receiver such as ELMS shows a refusal until it accepts something.
    """

    SIGNED = "signed"
    CHANGED_BODY = "changed-body"
    UNSIGNED = "unsigned"
    SIGNED_BY_OTHER = "other-secret"
    STALE = "stale"
    HALF_SIGNATURE = "half-signature"
    SHORTENED_SIGNATURE = "shortened-signature"
    SIGNED_BY_OLD = "old-secret"
    SIGNED_BY_NEW = "new-secret"
    REPEATED = "repeated"
    TWO_SIGNATURES = "two-signatures"
    OTHER_BYTES = "other-bytes"


DESCRIPTIONS = {
    Probe.SIGNED: "signed correctly",
    Probe.CHANGED_BODY: "one bit of the body changed",
    Probe.UNSIGNED: "without a signature",
    Probe.SIGNED_BY_OTHER: "signed with another secret",
    Probe.STALE: "signed correctly, but an hour ago",
    Probe.HALF_SIGNATURE: "only the first half of the signature correct",
    Probe.SHORTENED_SIGNATURE: f"only the first {_SHORTENED} characters of the signature",
    Probe.SIGNED_BY_OLD: "signed with the old secret only",
    Probe.SIGNED_BY_NEW: "signed with the new secret only",
    Probe.REPEATED: "the same webhook-id again",
    Probe.TWO_SIGNATURES: "two signatures, only the second correct",
    Probe.OTHER_BYTES: "other spaces and order in the JSON, signed correctly",
}
"""What each probe is, in words."""

_OF_ROTATION = (Probe.SIGNED_BY_OLD, Probe.SIGNED_BY_NEW)
_ACCEPTED = (Probe.SIGNED, Probe.REPEATED, Probe.TWO_SIGNATURES, Probe.OTHER_BYTES)


class Expected(StrEnum):
    """What a receiver that verifies does with a probe."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    EITHER = "either"


class ProbeOutcome(StrEnum):
    """What a receiver did with a probe: 2xx, 4xx, anything else, or it was not sent."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    NOT_SENT = "not-sent"


@dataclass(frozen=True)
class ProbeResult:
    """The response to a probe; None if the probe was not sent."""

    probe: Probe
    result: AttemptResult | None

    @property
    def expected(self) -> Expected:
        """What should be done with it; during a rotation, one of two secrets may be known."""
        if self.probe in _OF_ROTATION:
            return Expected.EITHER
        return Expected.ACCEPTED if self.probe in _ACCEPTED else Expected.REFUSED

    @property
    def outcome(self) -> ProbeOutcome:
        """What was done with it."""
        if self.result is None:
            return ProbeOutcome.NOT_SENT
        status = self.result.status if isinstance(self.result, WebhookResponse) else 0
        if 200 <= status < 300:
            return ProbeOutcome.ACCEPTED
        is_refusal = 400 <= status < 500 and status not in {408, 429}
        return ProbeOutcome.REFUSED if is_refusal else ProbeOutcome.FAILED

    @property
    def response(self) -> str:
        """The status of the response, or the failure."""
        if isinstance(self.result, WebhookResponse):
            return str(self.result.status)
        return self.result.kind if self.result else "not sent"

    @property
    def is_as_expected(self) -> bool:
        """Whether the receiver did what it should."""
        if self.expected is Expected.EITHER:
            return self.outcome in {ProbeOutcome.ACCEPTED, ProbeOutcome.REFUSED}
        return self.outcome == self.expected.value


@dataclass(frozen=True)
class ReceiverFinding:
    """What a receiver does: a code, a sentence, and what to do unless it is right."""

    code: str
    is_flaw: bool
    detail: str
    advice: Advice | None = None


def probes_for(keys: Sequence[Secret]) -> list[Probe]:
    """Return the probes for an endpoint with these secrets; two are for a rotation only."""
    return [probe for probe in Probe if len(keys) > 1 or probe not in _OF_ROTATION]


def make_probe(
    probe: Probe, keys: Sequence[Secret], webhook_id: str, body: bytes, *, now: datetime
) -> tuple[dict[str, str], bytes]:
    """Return the signature headers and the body of a probe, from the body of a ping.

    `keys` are the secrets of the endpoint, the newest first.
    """
    if probe is Probe.OTHER_BYTES:
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    signed_by: dict[Probe, Sequence[Secret]] = {
        Probe.SIGNED_BY_OTHER: [Secret.generate()],
        Probe.TWO_SIGNATURES: [Secret.generate(), *keys],
        Probe.SIGNED_BY_OLD: keys[1:],
        Probe.SIGNED_BY_NEW: keys[:1],
    }
    at = now - STALE_AGE if probe is Probe.STALE else now
    headers = signatures.sign(signed_by.get(probe, keys), webhook_id, body, now=at)
    listed = headers[SIGNATURE_HEADER].split(" ")
    match probe:
        case Probe.CHANGED_BODY:
            body = _change_a_bit(body)
        case Probe.UNSIGNED:
            del headers[SIGNATURE_HEADER]
        case Probe.HALF_SIGNATURE:
            headers[SIGNATURE_HEADER] = " ".join(map(_change_second_half, listed))
        case Probe.SHORTENED_SIGNATURE:
            cut = len("v1,") + _SHORTENED
            headers[SIGNATURE_HEADER] = " ".join(one[:cut] for one in listed)
    return headers, body


def _change_a_bit(body: bytes) -> bytes:
    # In the last digit of the time, so that the body stays a valid event.
    at = body.index(b'Z"') - 1
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def _change_second_half(signature: str) -> str:
    version, _, encoded = signature.partition(",")
    mac = base64.b64decode(encoded)
    half = len(mac) // 2
    changed = mac[:half] + bytes(byte ^ 0xFF for byte in mac[half:])
    return f"{version},{base64.b64encode(changed).decode('ascii')}"


def is_about_route(result: AttemptResult) -> bool:
    """Return True if the response to a correct ping says nothing about signatures.

    There was none, or its status concerns the route or the server: no other probe is worth sending.
    """
    if isinstance(result, Failure) or result.status in _OF_THE_ROUTE:
        return True
    return not (200 <= result.status < 300 or 400 <= result.status < 500)


def clock_offset(date: str, sent_at: datetime) -> timedelta | None:
    """Return how far a receiver's clock is ahead of ours by its `Date` header; None if invalid."""
    try:
        at = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) - sent_at


def diagnose(
    results: Sequence[ProbeResult], offset: timedelta | None, endpoint_id: int
) -> list[ReceiverFinding]:
    """Return what the results of the probes, in their order, say of a receiver.

    It is a single finding if the receiver verifies. `offset` is that of its clock, if it is known.
    """
    signed = results[0]
    if signed.result is not None and is_about_route(signed.result):
        return [_unusable(signed.result, endpoint_id)]
    accepted = {one.probe for one in results if one.outcome is ProbeOutcome.ACCEPTED}
    refused = {one.probe for one in results if one.outcome is ProbeOutcome.REFUSED}
    flaws = _wrongly_accepted(accepted)
    if signed.outcome is ProbeOutcome.ACCEPTED:
        flaws += [flaw for probe, flaw in _WRONGLY_REFUSED.items() if probe in refused]
        if offset is not None and abs(offset) > MAX_CLOCK_OFFSET:
            flaws.append(_clock(offset))
    else:
        flaws.append(_why_refused(results, accepted, offset, endpoint_id))
    flaws += _incomplete(results)
    if flaws:
        return flaws
    is_old_only = Probe.SIGNED_BY_OLD in accepted and Probe.SIGNED_BY_NEW in refused
    return [_VERIFIES, *([_OLD_SECRET_ONLY] if is_old_only else [])]


def _unusable(result: AttemptResult, endpoint_id: int) -> ReceiverFinding:
    if isinstance(result, Failure):
        advice = failure_advice.advice_for(result.kind, None, endpoint_id)
        detail = f"does not respond: {result.detail}"
    else:
        advice = failure_advice.advice_for(None, result.status, endpoint_id)
        detail = f"responds with {result.status} to a correctly signed webhook"
    return ReceiverFinding("no-answer", True, detail, advice)


def _wrongly_accepted(accepted: Collection[Probe]) -> list[ReceiverFinding]:
    if {Probe.CHANGED_BODY, Probe.UNSIGNED, Probe.SIGNED_BY_OTHER} <= set(accepted):
        return [_ACCEPTS_ANYTHING]
    flaws = []
    if Probe.UNSIGNED in accepted:
        flaws.append(_ACCEPTS_UNSIGNED)
    if Probe.SIGNED_BY_OTHER in accepted:
        flaws.append(_ACCEPTS_OTHER_SECRET)
    elif Probe.CHANGED_BODY in accepted:
        flaws.append(_ACCEPTS_CHANGED_BODY)
    elif {Probe.HALF_SIGNATURE, Probe.SHORTENED_SIGNATURE} & set(accepted):
        flaws.append(_COMPARES_PART)
    if Probe.STALE in accepted:
        flaws.append(_IGNORES_TIMESTAMP)
    return flaws


def _why_refused(
    results: Sequence[ProbeResult],
    accepted: Collection[Probe],
    offset: timedelta | None,
    endpoint_id: int,
) -> ReceiverFinding:
    if Probe.OTHER_BYTES in accepted:
        return _REWRITES_BODY
    if accepted and set(accepted) <= set(_OF_ROTATION):
        return _READS_ONE_SIGNATURE
    if offset is not None and abs(offset) > TOLERANCE - _DATE_PRECISION:
        return _clock(offset)
    signed = results[0].result
    (other,) = (one for one in results if one.probe is Probe.SIGNED_BY_OTHER)
    is_about_event = other.outcome is ProbeOutcome.REFUSED and other.response != results[0].response
    if is_about_event and isinstance(signed, WebhookResponse):
        return _refuses_event(signed)
    return ReceiverFinding(
        "refuses-everything",
        True,
        "refuses everything: is the body parsed and written again before it is verified? Or is it "
        "verified with another secret?",
        Advice(
            "Verify the raw bytes of the body, before any parsing, with the current secret of this "
            "endpoint; rotate it if it is lost.",
            "endpoints rotate-secret",
            (str(endpoint_id),),
        ),
    )


def _refuses_event(signed: WebhookResponse) -> ReceiverFinding:
    why = f": {problem_detail(signed.excerpt)[:_EXCERPT]}" if signed.excerpt else ""
    return ReceiverFinding(
        "refuses-event",
        True,
        f"verifies the signature, but refuses the event itself with {signed.status}{why}",
        Advice(
            "Fix what the response names. A receiver responds with 2xx to event types that it does "
            "not know."
        ),
    )


def _clock(offset: timedelta) -> ReceiverFinding:
    minutes = format_duration(timedelta(minutes=round(abs(offset) / timedelta(minutes=1))))
    direction = "behind" if offset < timedelta(0) else "ahead"
    return ReceiverFinding(
        "clock-differs",
        True,
        f"its clock is {minutes} {direction}, by the Date header of its response: what differs by "
        f"more than {format_duration(TOLERANCE)} is refused",
        Advice("Synchronize the clock of the receiver (NTP), and check the one of this machine."),
    )


def _incomplete(results: Sequence[ProbeResult]) -> list[ReceiverFinding]:
    failed = [one for one in results if one.outcome is ProbeOutcome.FAILED]
    unsent = sum(one.outcome is ProbeOutcome.NOT_SENT for one in results)
    flaws = []
    if failed:
        named = "; ".join(f"{one.response}: {DESCRIPTIONS[one.probe]}" for one in failed)
        flaws.append(
            ReceiverFinding(
                "fails",
                True,
                f"fails where it should accept with 2xx or refuse with 4xx ({named})",
                Advice("Look into the logs of the receiver, and of the web server in front of it."),
            )
        )
    if unsent:
        flaws.append(
            ReceiverFinding(
                "too-slow",
                True,
                f"is too slow: {count(unsent, 'of the pings was', 'of the pings were')} not sent",
                Advice("Have the receiver respond first and do its work afterwards."),
            )
        )
    return flaws


_VERIFIES = ReceiverFinding(
    "verifies",
    False,
    "verifies each webhook, and accepts nothing that is forged",
)
_OLD_SECRET_ONLY = ReceiverFinding(
    "old-secret-only",
    False,
    "has only the old secret, with which webhooks are signed until the rotation ends",
    Advice("Enter the new secret at the receiver before then."),
)
_ACCEPTS_ANYTHING = ReceiverFinding(
    "accepts-anything",
    True,
    "accepts anything, signed or not: anyone who knows the URL can send it events",
    Advice("Verify the signature of each webhook before anything is done with it."),
)
_ACCEPTS_UNSIGNED = ReceiverFinding(
    "accepts-unsigned",
    True,
    "accepts a webhook without a signature: it verifies only a signature that is there",
    Advice("Refuse a request in which one of the three headers is missing."),
)
_ACCEPTS_OTHER_SECRET = ReceiverFinding(
    "accepts-other-secret",
    True,
    "accepts a webhook that is signed with another secret: it does not verify the signature",
    Advice("Compute the HMAC with the secret of this endpoint, and compare it in constant time."),
)
_ACCEPTS_CHANGED_BODY = ReceiverFinding(
    "accepts-changed-body",
    True,
    "accepts a body that was changed after it was signed",
    Advice("Compute the HMAC over id, timestamp and the raw body, all three."),
)
_COMPARES_PART = ReceiverFinding(
    "compares-part",
    True,
    "compares only a part of the signature, so that the rest can be guessed",
    Advice("Compare whole signatures, of the same length, in constant time."),
)
_IGNORES_TIMESTAMP = ReceiverFinding(
    "ignores-timestamp",
    True,
    "accepts a webhook that was signed an hour ago: one that was overheard can be sent again",
    Advice(
        "Refuse a webhook-timestamp that differs from the clock by more than "
        f"{TOLERANCE.total_seconds():.0f} seconds."
    ),
)
_READS_ONE_SIGNATURE = ReceiverFinding(
    "reads-one-signature",
    True,
    "refuses a webhook with two signatures, as they are sent while a secret rotates",
    Advice("Accept a webhook if any of the signatures in its list is valid."),
)
_REWRITES_BODY = ReceiverFinding(
    "rewrites-body",
    True,
    "parses the body and writes it again before it verifies it: other bytes have another signature",
    Advice("Verify the raw bytes of the body, before any parsing."),
)
_REFUSES_REPETITION = ReceiverFinding(
    "refuses-repetition",
    True,
    "refuses a webhook that it has accepted before: an attempt whose response was lost is repeated",
    Advice("Respond with 2xx to a webhook-id that is known, and do nothing else."),
)
# What the refusal of a correct probe means if the first one was accepted.
_WRONGLY_REFUSED = {
    Probe.REPEATED: _REFUSES_REPETITION,
    Probe.TWO_SIGNATURES: _READS_ONE_SIGNATURE,
    Probe.OTHER_BYTES: _REWRITES_BODY,
}
