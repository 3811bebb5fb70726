"""An observer between the services that records every request of the worker and its response.

It forwards to ELMS, and is a plain endpoint as well. It shares nothing with the services but the
wire: it verifies with PyPI's standardwebhooks.
"""

import http.client
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from json import JSONDecodeError, loads

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.faults.processes import wait_until
from tests.loopback import Handler, served

_FORWARDED = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type")


@dataclass
class Post:
    """One request, and the response of the endpoint; None if there was none."""

    path: str
    webhook_id: str
    body: bytes
    verified: bool
    status: int | None = None
    outcome: str | None = None
    over: bool = False

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Observer:
    """The requests to each path; those to a path of `servers` are forwarded, others get 200.

    `statuses` of a path are its first responses; while its `gate` is closed there are none.
    """

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    secrets: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    servers: dict[str, int] = field(default_factory=dict)
    statuses: defaultdict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    gates: dict[str, threading.Event] = field(default_factory=dict)
    # Seconds; a server that is stopped does not respond.
    timeout: float = 2.0

    def on(self, path: str) -> list[Post]:
        return [post for post in list(self.posts) if post.path == path]

    def wait_for(self, count: int, path: str) -> None:
        """Return once there are `count` requests to a path."""
        wait_until(lambda: len(self.on(path)) >= count, f"{count} posts to {path}")

    def receive(self, path: str, headers: dict[str, str], body: bytes) -> Post:
        """Record a request before anything is done with it, then its response."""
        post = Post(path, headers.get("webhook-id", ""), body, self._verify(path, headers, body))
        self.posts.append(post)
        if path in self.gates:
            self.gates[path].wait()
        if self.statuses[path]:
            post.status = self.statuses[path].popleft()
        elif path not in self.servers:
            post.status = 200
        else:
            with suppress(OSError, http.client.HTTPException):
                self._forward(post, headers)
        post.over = True
        return post

    def _verify(self, path: str, headers: dict[str, str], body: bytes) -> bool:
        for secret in list(self.secrets[path]):
            with suppress(WebhookVerificationError):
                Webhook(secret).verify(body, headers)
                return True
        return False

    def _forward(self, post: Post, headers: dict[str, str]) -> None:
        port = self.servers[post.path]
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=self.timeout)
        given = {name: headers[name] for name in _FORWARDED if name in headers}
        with closing(server):
            server.request("POST", post.path, post.body, given)
            response = server.getresponse()
            body = response.read()
            with suppress(JSONDecodeError):
                post.outcome = loads(body).get("outcome")
            post.status = response.status


@contextmanager
def observing() -> Iterator[Observer]:
    """Run an observer on loopback for the block."""
    observer = Observer()

    class Observing(Handler, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            length = int(headers.get("content-length", 0))
            body = self.rfile.read(length)
            self.close_connection = True
            if len(body) < length:  # the sender was killed
                return
            post = observer.receive(self.path, headers, body)
            if post.status is None:
                return
            self.close_connection = False
            response = b'{"outcome":"%b"}' % (post.outcome or "").encode()
            self.send_response(post.status)
            self.send_header("Content-Length", str(len(response)))
            self.end_headers()
            self.wfile.write(response)

    with served(Observing) as observer.url:
        try:
            yield observer
        finally:
            for gate in observer.gates.values():
                gate.set()
