"""A throw-away receiver on loopback: verifies each webhook, shows it, and does nothing with it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any

from contract import events, signatures
from contract.signatures import Secret
from receiver.webhooks.inbox import WebhookOutcome

HOST = "127.0.0.1"
_MAX_BODY_BYTES = 64 * 1024
# Seconds that a client may take to send its request; others wait meanwhile.
_TIMEOUT = 5.0


@dataclass(frozen=True)
class ReceivedWebhook:
    """A request, the response to it, and what was found."""

    received_at: datetime
    path: str
    status: HTTPStatus
    detail: str
    body: bytes

    @property
    def is_accepted(self) -> bool:
        """Whether the response is 2xx."""
        return self.status is HTTPStatus.OK


class Listener(TCPServer):
    """Receives one webhook after the other; without secrets it verifies none of them."""

    allow_reuse_address = True

    def __init__(
        self, port: int, secrets: Sequence[Secret], show: Callable[[ReceivedWebhook], None]
    ) -> None:
        self.secrets = secrets
        self.show = show
        self.known_ids: set[str] = set()
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The URL to register; any path is received."""
        return f"http://{HOST}:{self.server_address[1]}/webhooks"

    def handle_error(self, *_: Any) -> None:
        """Pass over a client that went away; `serve_forever` raises what is not an Exception."""

    def receive(self, headers: dict[str, str], body: bytes) -> tuple[HTTPStatus, str, str]:
        """Return the status of the response, its member `outcome` or `detail`, and the findings."""
        now = datetime.now(UTC)
        signed = "not verified, because no secret is known"
        try:
            if self.secrets:
                signatures.verify(self.secrets, headers, body, now=now)
                signed = "signature OK"
            event = events.load(body)
        except signatures.SignatureError as error:
            return HTTPStatus.UNAUTHORIZED, str(error), f"refused: {error}"
        except events.EventError as error:
            return HTTPStatus.UNPROCESSABLE_ENTITY, str(error), f"{signed}, but {error}"
        webhook_id = headers.get(signatures.ID_HEADER, "")
        outcome = WebhookOutcome.IGNORED
        if webhook_id in self.known_ids:
            outcome = WebhookOutcome.DUPLICATE
        self.known_ids.add(webhook_id)
        return HTTPStatus.OK, outcome, f"{signed}, {outcome}: {_describe(event)}, {webhook_id}"


def _describe(event: events.Event | events.UnknownEvent) -> str:
    if isinstance(event, events.UnknownEvent):
        is_test = isinstance(event, events.Ping) and event.type != events.PING_TYPE
        return f"{event.type}{' (a test)' if is_test else ''}"
    return f"{event.type} of {event.data.course_id}, version {event.data.course_version}"


class _Handler(BaseHTTPRequestHandler):
    server: Listener
    timeout = _TIMEOUT
    server_version, sys_version = "course-webhooks", ""

    def do_POST(self) -> None:
        """Receive a webhook, show it, and respond."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return
        if len(length) > 9 or int(length) > _MAX_BODY_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return  # the client went away
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, said, detail = self.server.receive(headers, body)
        self.server.show(ReceivedWebhook(datetime.now(UTC), self.path, status, detail, body))
        document = json.dumps({"outcome" if status is HTTPStatus.OK else "detail": said}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def log_message(self, *_: Any) -> None:
        """Log nothing: webhooks are shown."""
