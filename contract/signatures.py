"""Signatures of Standard Webhooks 1.0: sign a body, parse the three headers, verify a request."""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from itsdangerous import HMACAlgorithm

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
# The maximum difference of a timestamp from the clock (Standard Webhooks: five minutes).
TOLERANCE = timedelta(seconds=300)

_PREFIX = "whsec_"
_MIN_KEY, _MAX_KEY = 24, 64
_MAC = HMACAlgorithm(hashlib.sha256)
_MAX_HEADER = 4096
_ID = re.compile(r"[!-+/-~\-]{1,255}", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,11}", re.ASCII)
_MILLISECONDS = re.compile(r"[0-9]{13}", re.ASCII)
_SIGNATURES = re.compile(r"[A-Za-z0-9]+,[A-Za-z0-9+/=_-]+(?: [A-Za-z0-9]+,[A-Za-z0-9+/=_-]+)*")


class SecretError(ValueError):
    """The text is not a webhook secret; the message never contains the text."""


class SignatureError(ValueError):
    """The request is not signed as Standard Webhooks requires, or with an unknown secret."""


class MissingHeaderError(SignatureError):
    """One of the three headers is missing or empty."""


class MalformedHeaderError(SignatureError):
    """One of the three headers is malformed."""


class TimestampError(SignatureError):
    """The timestamp differs from the clock by more than `TOLERANCE`."""


class NoMatchError(SignatureError):
    """The headers are valid, but no secret matches any of the signatures."""


@dataclass(frozen=True, repr=False)
class Secret:
    """A webhook secret; only `reveal` returns it as text."""

    key: bytes

    @classmethod
    def generate(cls) -> "Secret":
        """Return a new secret of 32 random bytes."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def parse(cls, text: str) -> "Secret":
        """Return the secret from `whsec_` + base64 (or base64 alone), or raise SecretError."""
        encoded = text.strip().removeprefix(_PREFIX)
        try:
            key = base64.b64decode(encoded.encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise SecretError(
                "a webhook secret is `whsec_` followed by base64; this is not"
            ) from None
        if not _MIN_KEY <= len(key) <= _MAX_KEY:
            raise SecretError(
                f"a webhook secret has {_MIN_KEY} to {_MAX_KEY} bytes; this one has {len(key)}"
            )
        return cls(key)

    def reveal(self) -> str:
        """Return the secret as text, to store it encrypted or show it once."""
        return _PREFIX + base64.b64encode(self.key).decode("ascii")

    def __repr__(self) -> str:
        return "Secret(hidden)"


@dataclass(frozen=True)
class SignatureHeaders:
    """The values of the three headers, well-formed and recent, but not verified yet."""

    webhook_id: str
    timestamp: str
    signatures: tuple[bytes, ...]


def sign(keys: Iterable[Secret], webhook_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
    """Return the three headers of an attempt, with one signature for each secret, in their order.

    Raises ValueError without a secret, because an unsigned request must never be sent.
    """
    timestamp = str(int(now.timestamp()))
    content = _content(webhook_id, timestamp, body)
    signatures = [
        "v1," + base64.b64encode(_MAC.get_signature(secret.key, content)).decode("ascii")
        for secret in keys
    ]
    if not signatures:
        raise ValueError("no secret to sign with")
    return {
        ID_HEADER: webhook_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: " ".join(signatures),
    }


def parse_headers(headers: Mapping[str, str], *, now: datetime) -> SignatureHeaders:
    """Return the values of the three headers (names in lower case), or raise a SignatureError.

    Needs neither secret nor body.
    """
    webhook_id = _header(headers, ID_HEADER, _ID, "1 to 255 visible characters, no comma or dot")
    timestamp = _header(headers, TIMESTAMP_HEADER, _TIMESTAMP, "whole seconds since 1970")
    listed = _header(
        headers, SIGNATURE_HEADER, _SIGNATURES, "`v1,<base64>`, separated by single spaces"
    )
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise TimestampError(
            f"signed at {timestamp}, but the time here is {int(now.timestamp())}: "
            f"more than {int(TOLERANCE.total_seconds())} s apart"
        )
    return SignatureHeaders(webhook_id, timestamp, tuple(_version_1(listed)))


def verify_body(keys: Iterable[Secret], parsed: SignatureHeaders, body: bytes) -> str:
    """Return the webhook id if a secret matches a signature of the body, or raise NoMatchError."""
    content = _content(parsed.webhook_id, parsed.timestamp, body)
    for secret in keys:
        for signature in parsed.signatures:
            if _MAC.verify_signature(secret.key, content, signature):
                return parsed.webhook_id
    raise NoMatchError("no signature matches: the secret, id, timestamp or body is different")


def verify(
    keys: Iterable[Secret], headers: Mapping[str, str], body: bytes, *, now: datetime
) -> str:
    """Return the webhook id of a request if it is correctly signed, or raise SignatureError."""
    return verify_body(keys, parse_headers(headers, now=now), body)


def _content(webhook_id: str, timestamp: str, body: bytes) -> bytes:
    return b".".join((webhook_id.encode("ascii"), timestamp.encode("ascii"), body))


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str], expected: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise MissingHeaderError(f"the header {name} is missing")
    if len(value) > _MAX_HEADER or not form.fullmatch(value):
        if name == TIMESTAMP_HEADER and _MILLISECONDS.fullmatch(value):
            raise MalformedHeaderError(f"{name} looks like milliseconds; expected {expected}")
        raise MalformedHeaderError(f"the header {name} is malformed; expected {expected}")
    return value


def _version_1(listed: str) -> Iterable[bytes]:
    for entry in listed.split(" "):
        version, _, encoded = entry.partition(",")
        if version == "v1":
            try:
                signature = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                continue
            if base64.b64encode(signature).decode("ascii") == encoded:  # canonical base64 only
                yield signature
