"""A saved webhook request: whether a secret has signed it, and if not, why."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from contract import signatures
from contract.signatures import NoMatchError, Secret, SignatureError, SignatureHeaders
from foundation.errors import Advice
from receiver.webhooks.refusals import REASONS

_MISMATCH = Advice(
    "Check that the secret is the one of this endpoint, and that id, timestamp and body are of the "
    "same request, the body byte by byte."
)
_RAW = Advice("Save and verify the body byte by byte, as it was received.")


@dataclass(frozen=True)
class SignatureCheck:
    """Whether a saved request is signed: the reason if not, what it means, and what to do.

    `signed_at` is what its timestamp says, if it is one.
    """

    reason: str | None
    detail: str
    signed_at: datetime | None
    advice: Advice | None = None

    def is_current(self, now: datetime) -> bool:
        """Whether a receiver would accept the timestamp now."""
        return self.signed_at is not None and abs(now - self.signed_at) <= signatures.TOLERANCE


def check(secrets: Sequence[Secret], headers: Mapping[str, str], body: bytes) -> SignatureCheck:
    """Verify a saved request as at the time when it was signed; names in lower case."""
    signed_at = _signed_at(headers)
    try:
        parsed = signatures.parse_headers(headers, now=signed_at or datetime.now(UTC))
        signatures.verify_body(secrets, parsed, body)
    except NoMatchError as error:
        changed = next(_nearly(secrets, parsed, body), None)
        detail, advice = (f"{error}; {changed}", _RAW) if changed else (str(error), _MISMATCH)
        return SignatureCheck(REASONS[type(error)], detail, signed_at, advice)
    except SignatureError as error:
        advice = Advice("Give the three headers as they were received.")
        return SignatureCheck(REASONS[type(error)], str(error), signed_at, advice)
    return SignatureCheck(None, "a secret has signed this body, id and timestamp", signed_at)


def _signed_at(headers: Mapping[str, str]) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(headers.get(signatures.TIMESTAMP_HEADER, "")), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _nearly(secrets: Sequence[Secret], parsed: SignatureHeaders, body: bytes) -> Iterator[str]:
    """Yield each usual change of a body that explains a mismatch."""
    for changed, why in _changes(body):
        try:
            signatures.verify_body(secrets, parsed, changed)
        except NoMatchError:
            continue
        yield why


def _changes(body: bytes) -> Iterator[tuple[bytes, str]]:
    yield body.rstrip(b"\r\n"), "it matches without the line end at the end of the file"
    yield body.removeprefix(b"\xef\xbb\xbf"), "it matches without the byte order mark"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    compact = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    yield (
        compact.encode("utf-8", errors="replace"),
        "it matches as compact JSON: the body was parsed and written again",
    )
