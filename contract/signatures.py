"""Standard Webhooks 1.0 signatures: sign to three headers, verify to an id or a SignatureError."""

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
TOLERANCE = timedelta(seconds=300)
"""How far a timestamp may lie behind or ahead (Standard Webhooks: five minutes)."""

_PREFIX = "whsec_"
_MIN_KEY, _MAX_KEY = 24, 64
_MAC = HMACAlgorithm(hashlib.sha256)
_MAX_HEADER = 4096
_ID = re.compile(r"[!-+/-~\-]{1,255}", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,11}", re.ASCII)
_MILLISECONDS = re.compile(r"[0-9]{13}", re.ASCII)
_SIGNATURES = re.compile(r"[A-Za-z0-9]+,[A-Za-z0-9+/=_-]+(?: [A-Za-z0-9]+,[A-Za-z0-9+/=_-]+)*")


class SecretError(ValueError):
    """The text is no webhook secret; says what is wrong with it and never what it is."""


class SignatureError(ValueError):
    """The request is not signed as Standard Webhooks says, or not by a secret that we know."""


class MissingHeaderError(SignatureError):
    """One of the three headers is missing or empty."""


class MalformedHeaderError(SignatureError):
    """One of the three headers is there, but not in its form."""


class TimestampError(SignatureError):
    """The timestamp lies further from our clock than `TOLERANCE`."""


class NoMatchError(SignatureError):
    """The headers are in order, but no secret makes any of the signatures."""


@dataclass(frozen=True, repr=False)
class Secret:
    """A webhook secret; it shows itself only to those who ask with `reveal`."""

    key: bytes

    @classmethod
    def generate(cls) -> "Secret":
        """Return a new secret of 32 random bytes."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def parse(cls, text: str) -> "Secret":
        """Return the secret that `whsec_` + base64 spells (the prefix may be missing)."""
        encoded = text.strip().removeprefix(_PREFIX)
        try:
            key = base64.b64decode(encoded.encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise SecretError("a webhook secret is `whsec_` and base64; this is not") from None
        if not _MIN_KEY <= len(key) <= _MAX_KEY:
            raise SecretError(
                f"a webhook secret holds {_MIN_KEY} to {_MAX_KEY} bytes; this one holds {len(key)}"
            )
        return cls(key)

    def reveal(self) -> str:
        """Return the secret as text, to be stored sealed or shown once."""
        return _PREFIX + base64.b64encode(self.key).decode("ascii")

    def __repr__(self) -> str:
        return "Secret(hidden)"


@dataclass(frozen=True)
class Stamp:
    """What the three headers say, in order in form and time, but not yet verified."""

    webhook_id: str
    timestamp: str
    signatures: tuple[bytes, ...]


def sign(keys: Iterable[Secret], webhook_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
    """Return the three headers of one attempt; one signature for each secret, in their order.

    Raises ValueError without a secret: an unsigned POST is never sent.
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


def read(headers: Mapping[str, str], *, now: datetime) -> Stamp:
    """Return what the three headers say, or raise a SignatureError; needs no secret and no body.

    Keys are looked up in lower case.
    """
    webhook_id = _header(headers, ID_HEADER, _ID, "1 to 255 visible characters, no comma or dot")
    timestamp = _header(headers, TIMESTAMP_HEADER, _TIMESTAMP, "whole seconds since 1970")
    listed = _header(headers, SIGNATURE_HEADER, _SIGNATURES, "`v1,<base64>`, split by one space")
    _check_age(int(timestamp), now)
    return Stamp(webhook_id, timestamp, tuple(_version_1(listed)))


def verify_stamp(keys: Iterable[Secret], stamp: Stamp, body: bytes) -> str:
    """Return the webhook id if one of the secrets made one of the signatures, or raise."""
    content = _content(stamp.webhook_id, stamp.timestamp, body)
    for secret in keys:
        for signature in stamp.signatures:
            if _MAC.verify_signature(secret.key, content, signature):
                return stamp.webhook_id
    raise NoMatchError("no signature matches: another secret, or a changed id, timestamp or body")


def verify(
    keys: Iterable[Secret], headers: Mapping[str, str], body: bytes, *, now: datetime
) -> str:
    """Return the webhook id of a request signed by one of the secrets, or raise SignatureError."""
    return verify_stamp(keys, read(headers, now=now), body)


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


def _check_age(timestamp: int, now: datetime) -> None:
    age = now.timestamp() - timestamp
    if abs(age) > TOLERANCE.total_seconds():
        raise TimestampError(
            f"signed at {timestamp}, but the clock here says {int(now.timestamp())}: "
            f"more than {int(TOLERANCE.total_seconds())} s apart"
        )


def _version_1(listed: str) -> Iterable[bytes]:
    for entry in listed.split(" "):
        version, _, encoded = entry.partition(",")
        if version == "v1":
            try:
                signature = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                continue
            if base64.b64encode(signature).decode("ascii") == encoded:  # one spelling only
                yield signature
