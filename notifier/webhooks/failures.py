"""What keeps an event from being taken: failures and refusals, and what to do about each."""

from enum import StrEnum


class FailureKind(StrEnum):
    """Why no answer came to an attempt; the words are stored, and do not change."""

    URL = "url"
    DNS = "dns"
    DNS_TIMEOUT = "dns-timeout"
    BLOCKED = "blocked"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect-timeout"
    TLS_TIMEOUT = "tls-timeout"
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


NEXT_STEPS: dict[str, str] = {
    FailureKind.URL: "Put the right URL in its place with `notifier endpoints correct-url`.",
    FailureKind.DNS: "Check its DNS records, this machine's name service, and the host's spelling: "
    "`notifier endpoints correct-url` puts the right one in its place.",
    FailureKind.DNS_TIMEOUT: "Check this machine's name service and that of the host's domain.",
    FailureKind.BLOCKED: "If this receiver is yours, name its host or network in "
    "NOTIFIER_ALLOWED_HOSTS and restart; otherwise disable the endpoint and ask who set its DNS.",
    FailureKind.REFUSED: "Check that the receiver runs and listens on this port.",
    FailureKind.UNREACHABLE: "Check this machine's routes and the network between.",
    FailureKind.CONNECT_TIMEOUT: "Check that the receiver runs, and the firewalls between.",
    FailureKind.TLS_TIMEOUT: "Check that this port speaks TLS and that the receiver is not "
    "overloaded.",
    FailureKind.TLS_EXPIRED: "Ask the receiver's administrator to renew the certificate.",
    FailureKind.TLS_NOT_YET_VALID: "Check the clock of this machine, then the certificate's dates.",
    FailureKind.TLS_SELF_SIGNED: "If this certificate is known to you, put it into the file that "
    "NOTIFIER_CA_BUNDLE names and restart; otherwise ask the receiver's administrator.",
    FailureKind.TLS_UNKNOWN_CA: "Put the authority that signed the certificate into the file that "
    "NOTIFIER_CA_BUNDLE names and restart; or the receiver must send its whole chain.",
    FailureKind.TLS_WRONG_HOST: "Register the name that stands in the certificate, or ask the "
    "receiver's administrator for a certificate that has this one.",
    FailureKind.TLS: "Check that this port speaks TLS 1.2 or newer, with a certificate in order.",
    FailureKind.RESET: "Look into the logs of the receiver and of the web server before it.",
    FailureKind.DEADLINE: "The receiver should answer first and work afterwards; see what keeps "
    "it. NOTIFIER_ATTEMPT_DEADLINE is how long it may take.",
    FailureKind.PROTOCOL: "Check that a web server answers there, and what lies between.",
    FailureKind.CONNECTION_FAILED: "Read the detail; `notifier doctor` looks at this machine.",
    FailureKind.SECRET_UNREADABLE: "Put the key that sealed it back into NOTIFIER_ENCRYPTION_KEYS.",
    FailureKind.WORKER_LOST: "Find out in the worker's log and the system's why it ended.",
    FailureKind.INTERNAL: "Report it with the trace in the worker's log.",
}
"""The one remedy for each kind."""


_SIGNED_BY_ANOTHER = (
    "Enter this endpoint's present secret at the receiver; if nobody kept it, "
    "`notifier endpoints rotate-secret` makes a new one. And check that the URL names the "
    "receiver's door: `notifier endpoints correct-url` corrects it."
)
_PATH = (
    "Check the path of its URL, for the receiver takes no webhooks there: "
    "`notifier endpoints correct-url` puts the right one in its place."
)
_REFUSED = "The receiver understood it and refused it: mend there what it names."
ANSWERS: dict[int, str] = {
    400: _REFUSED,
    401: _SIGNED_BY_ANOTHER,
    403: _SIGNED_BY_ANOTHER,
    404: _PATH,
    405: _PATH,
    409: _REFUSED,
    410: "The receiver wants no more events: ask its administrator why.",
    413: _REFUSED,
    415: _REFUSED,
    422: _REFUSED,
    429: "The receiver asks to be sent less: if it stays so, ask its administrator.",
}
"""The remedy for each status that has one of its own."""


def next_step(kind: str | None, status: int | None = None) -> str | None:
    """Return what to do about a kind of failure, or about a status; None if nothing is known."""
    if status is None:
        return NEXT_STEPS.get(kind or "")
    if 300 <= status < 400:
        return "Register the address that it leads to: a redirect is never followed."
    if status >= 500:
        return "Look into the logs of the receiver and of the web server before it."
    return ANSWERS.get(status)
