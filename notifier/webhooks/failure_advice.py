"""The kinds of failed attempts, and advice for people about each failure and status.

What happens to the delivery, and to the endpoint, is decided in `retry_policy`.
"""

from enum import StrEnum

from foundation.errors import Advice
from notifier.models import Attempt, Endpoint


class FailureKind(StrEnum):
    """Why an attempt had no response; the values are stored."""

    URL = "url"
    DNS = "dns"
    DNS_TIMEOUT = "dns-timeout"
    BLOCKED = "blocked"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect-timeout"
    TLS_EXPIRED = "tls-expired"
    TLS_NOT_YET_VALID = "tls-not-yet-valid"
    TLS_SELF_SIGNED = "tls-self-signed"
    TLS_UNKNOWN_CA = "tls-unknown-ca"
    TLS_WRONG_HOST = "tls-wrong-host"
    TLS = "tls"
    RESET = "reset"
    DEADLINE = "deadline"
    PROTOCOL = "protocol"
    CONNECTION_FAILED = "connection-failed"
    SECRET_UNREADABLE = "secret-unreadable"  # noqa: S105 - the name of a failure
    WORKER_LOST = "worker-lost"
    INTERNAL = "internal"


_ENDPOINT = ("ENDPOINT_ID",)
_SERVER_LOGS = Advice("Look into the logs of the receiver and of the web server in front of it.")
_ADVICE: dict[str, Advice] = {
    FailureKind.URL: Advice("Correct the URL.", "endpoints correct-url", _ENDPOINT),
    FailureKind.DNS: Advice(
        "Check the spelling of the host, its DNS records and the name server of this machine.",
        "endpoints correct-url",
        _ENDPOINT,
    ),
    FailureKind.DNS_TIMEOUT: Advice(
        "Check the name server of this machine and the one of the host's domain."
    ),
    FailureKind.BLOCKED: Advice(
        "If this receiver is yours, add its host or network to NOTIFIER_ALLOWED_HOSTS and restart. "
        "Otherwise disable the endpoint and find out who changed its DNS records."
    ),
    FailureKind.REFUSED: Advice("Check that the receiver is running and listens on this port."),
    FailureKind.UNREACHABLE: Advice("Check the network between this machine and the receiver."),
    FailureKind.CONNECT_TIMEOUT: Advice(
        "Check that the receiver is running and not overloaded, and that no firewall blocks the "
        "connection."
    ),
    FailureKind.TLS_EXPIRED: Advice("Ask the receiver's administrator to renew the certificate."),
    FailureKind.TLS_NOT_YET_VALID: Advice(
        "Check the clock of this machine, then the dates of the certificate."
    ),
    FailureKind.TLS_SELF_SIGNED: Advice(
        "If you know this certificate, add it to the file that NOTIFIER_CA_BUNDLE names and "
        "restart. Otherwise ask the receiver's administrator."
    ),
    FailureKind.TLS_UNKNOWN_CA: Advice(
        "Add the certificate authority to the file that NOTIFIER_CA_BUNDLE names and restart, or "
        "have the receiver send its whole certificate chain."
    ),
    FailureKind.TLS_WRONG_HOST: Advice(
        "Register the host name of the certificate, or ask the receiver's administrator for a "
        "certificate with this host name."
    ),
    FailureKind.TLS: Advice(
        "Check that this port speaks TLS 1.2 or newer and has a valid certificate."
    ),
    FailureKind.RESET: _SERVER_LOGS,
    FailureKind.DEADLINE: Advice(
        "The receiver is too slow: its events are sent again, and it is paused if it stays slow. "
        "Have it respond first and do its work afterwards. NOTIFIER_ATTEMPT_DEADLINE sets how long "
        "an attempt may take."
    ),
    FailureKind.PROTOCOL: Advice(
        "Check that a web server listens there, and any proxy in front of it."
    ),
    FailureKind.CONNECTION_FAILED: Advice("Read the detail, then check this machine.", "doctor"),
    FailureKind.SECRET_UNREADABLE: Advice(
        "Add the key that encrypted it to NOTIFIER_ENCRYPTION_KEYS again."
    ),
    FailureKind.WORKER_LOST: Advice(
        "Look into the logs of the worker and the system to see why the worker ended."
    ),
    FailureKind.INTERNAL: Advice("Report it with the traceback from the log of the worker."),
}
_SIGNATURE = Advice(
    "Enter the current secret of this endpoint at the receiver, or rotate it if it is lost. Also "
    "check that the URL is the one of the receiver's webhook route.",
    "endpoints rotate-secret",
    _ENDPOINT,
)
_PATH = Advice(
    "The receiver accepts no webhooks at this path: correct the URL. An endpoint that has accepted "
    "deliveries keeps its URL: add the new one, then remove this one.",
    "endpoints correct-url",
    _ENDPOINT,
)
_REJECTED = Advice("The receiver rejected the event. Its response says what has to be fixed there.")
_STATUS_ADVICE: dict[int, Advice] = {
    400: _REJECTED,
    401: _SIGNATURE,
    403: _SIGNATURE,
    404: _PATH,
    405: _PATH,
    409: _REJECTED,
    410: Advice("The receiver no longer accepts events: ask its administrator why."),
    413: _REJECTED,
    415: _REJECTED,
    422: _REJECTED,
    429: Advice("The receiver limits the rate: if this persists, ask its administrator."),
}


def advice_for(kind: str | None, status: int | None, endpoint_id: int) -> Advice | None:
    """Return what to do about a failure or the status of a response; None if nothing is known."""
    if status is None:
        advice = _ADVICE.get(kind or "")
    elif 300 <= status < 400:
        advice = Advice("Register the URL that it redirects to: redirects are never followed.")
    else:
        advice = _SERVER_LOGS if status >= 500 else _STATUS_ADVICE.get(status)
    return advice and advice.fill("ENDPOINT_ID", str(endpoint_id))


def of_attempt(attempt: Attempt | None, endpoint: Endpoint) -> Advice | None:
    """Return what to do about an attempt; None if there was none, or the endpoint was removed."""
    if attempt is None or endpoint.removed_at is not None:
        return None
    return advice_for(attempt.failure, attempt.status, endpoint.id)
