"""The headers that an attempt sent, computed again from stored data, with shortened signatures."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from contract import signatures
from contract.signatures import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, Secret
from foundation.crypto import Vault
from foundation.errors import DecryptionError
from notifier.models import Attempt, Delivery
from notifier.webhooks import endpoints
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.http_client import HEADERS

# Characters of a signature that are shown: enough to compare, too few to use.
_SHOWN = 8
_UNKNOWN = "unknown: the secret used at that time, or its encryption key, is not available"
# Failures after which the request may have been sent.
_MAYBE_SENT = frozenset({FailureKind.RESET, FailureKind.DEADLINE, FailureKind.PROTOCOL})


@dataclass(frozen=True)
class SigningSecret:
    """A secret and the period in which it signs; `secret` is None if it cannot be decrypted."""

    created_at: datetime
    expires_at: datetime | None
    secret: Secret | None

    def signs(self, at: datetime) -> bool:
        """Return True if the secret signed at that time."""
        return self.created_at <= at and (self.expires_at is None or at < self.expires_at)


def signing_secrets(session: Session, endpoint_id: int, vault: Vault) -> list[SigningSecret]:
    """Return all secrets that an endpoint ever had, newest first."""
    return [
        SigningSecret(row.created_at, row.expires_at, _decrypt(vault, row.encrypted))
        for row in endpoints.secrets_of(session, endpoint_id)
    ]


def headers_of(
    delivery: Delivery, attempt: Attempt, secrets: Sequence[SigningSecret]
) -> Mapping[str, str] | None:
    """Return the headers that an attempt sent, or None if it failed before sending."""
    if attempt.status is None and attempt.failure not in _MAYBE_SENT:
        return None
    at = attempt.started_at
    keys = [item.secret for item in secrets if item.signs(at) and item.secret is not None]
    if not keys:
        return {**HEADERS, ID_HEADER: delivery.event_id, SIGNATURE_HEADER: _UNKNOWN}
    signed = signatures.sign(keys, delivery.event_id, delivery.event.body.encode(), now=at)
    cut = [f"{signature[: len('v1,') + _SHOWN]}…" for signature in signed[SIGNATURE_HEADER].split()]
    return {**HEADERS, **signed, SIGNATURE_HEADER: " ".join(cut)}


def curl_command(delivery: Delivery) -> str:
    """Return a command that sends a delivery's request, with placeholders for what is signed.

    These are the timestamp and the signature: a command with a valid one could be used by anyone.
    """
    headers = {
        **HEADERS,
        ID_HEADER: delivery.event_id,
        TIMESTAMP_HEADER: "TIMESTAMP",
        SIGNATURE_HEADER: "SIGNATURE",
    }
    options = [f"--header {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    url, body = shlex.quote(delivery.endpoint.url), shlex.quote(delivery.event.body)
    return " \\\n  ".join([f"curl --request POST {url}", *options, f"--data-raw {body}"])


def _decrypt(vault: Vault, encrypted: str) -> Secret | None:
    try:
        return Secret.parse(vault.decrypt(encrypted))
    except DecryptionError:
        return None
