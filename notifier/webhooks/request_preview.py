"""What an attempt sent, put together again from what is stored; its signatures cut short."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from contract import signatures
from contract.signatures import ID_HEADER, SIGNATURE_HEADER, Secret
from foundation.crypto import Vault
from foundation.errors import DecryptionError
from notifier.models import Attempt, Delivery
from notifier.webhooks import endpoints
from notifier.webhooks.failures import FailureKind
from notifier.webhooks.http_client import HEADERS

_SHOWN = 8
"""So much of a signature tells one from another, and signs nothing."""
_UNKNOWN = "cannot be shown: the secret of then, or the key that sealed it, is not at hand"
_AFTER_SENDING = frozenset({FailureKind.RESET, FailureKind.DEADLINE, FailureKind.PROTOCOL})
"""With these an attempt may have got as far as to send; with the others it did not."""


@dataclass(frozen=True)
class SigningSecret:
    """A secret with the time in which it signs; None where it cannot be opened."""

    created_at: datetime
    expires_at: datetime | None
    secret: Secret | None

    def signs(self, at: datetime) -> bool:
        """Tell whether the secret signed at a moment."""
        return self.created_at <= at and (self.expires_at is None or at < self.expires_at)


def signing_secrets(session: Session, endpoint_id: int, vault: Vault) -> list[SigningSecret]:
    """Return all the secrets that an endpoint ever had, the newest first."""
    return [
        SigningSecret(row.created_at, row.expires_at, _opened(vault, row.encrypted))
        for row in endpoints.secrets_of(session, endpoint_id)
    ]


def headers_of(
    delivery: Delivery, attempt: Attempt, secrets: Sequence[SigningSecret]
) -> Mapping[str, str] | None:
    """Return the headers that an attempt sent, or None if it never got as far as that."""
    if attempt.status is None and attempt.failure not in _AFTER_SENDING:
        return None
    at = attempt.started_at
    keys = [one.secret for one in secrets if one.signs(at) and one.secret is not None]
    if not keys:
        return {**HEADERS, ID_HEADER: delivery.event_id, SIGNATURE_HEADER: _UNKNOWN}
    signed = signatures.sign(keys, delivery.event_id, delivery.event.body.encode(), now=at)
    cut = [f"{one[: len('v1,') + _SHOWN]}…" for one in signed[SIGNATURE_HEADER].split()]
    return {**HEADERS, **signed, SIGNATURE_HEADER: " ".join(cut)}


def _opened(vault: Vault, encrypted: str) -> Secret | None:
    try:
        return Secret.parse(vault.decrypt(encrypted))
    except DecryptionError:
        return None
