"""An observer between the services: records every request of the worker and every response.

It forwards to ELMS, and is a plain endpoint as well. It shares nothing with the services but the
wire: it verifies with PyPI's standardwebhooks.
"""

import http.client
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import JSONDecodeError, loads
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.faults.processes import wait_until

_FORWARD_TIMEOUT = 2.0
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
    def taken(self) -> bool:
        """Whether the endpoint accepted the event."""
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Observer:
    """The requests to each path; those to a path of `servers` are forwarded, others get 200.

    `statuses` of a path are its first responses; while its `gate` is closed there are none.
    """

    posts: list[Post] = field(default_factory=list)
    secrets: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    servers: dict[str, int] = field(default_factory=dict)
    statuses: defaultdict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    gates: dict[str, threading.Event] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def on(self, path: str) -> list[Post]:
        with self._lock:
            return [post for post in self.posts if post.path == path]

    def everything(self) -> list[Post]:
        with self._lock:
            return list(self.posts)

    def wait_for(self, count: int, path: str) -> list[Post]:
        """Return the requests to a path once there are `count`."""
        wait_until(lambda: len(self.on(path)) >= count, f"{count} posts to {path}")
        return self.on(path)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Post:
        """Record a request before anything is done with it, then its response."""
        post = Post(path, headers.get("webhook-id", ""), body, self._verify(path, headers, body))
        with self._lock:
            self.posts.append(post)
            status = self.statuses[path].popleft() if self.statuses[path] else None
        if path in self.gates:
            self.gates[path].wait()
        if status is not None or path not in self.servers:
            post.status = status or 200
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
        server = http.client.HTTPConnection(
            "127.0.0.1", self.servers[post.path], timeout=_FORWARD_TIMEOUT
        )
        given = {name: headers[name] for name in _FORWARDED if name in headers}
        with closing(server):
            server.request("POST", post.path, post.body, given)
            answer = server.getresponse()
            said = answer.read()
            with suppress(JSONDecodeError):
                post.outcome = loads(said).get("outcome")
            post.status = answer.status


@contextmanager
def observing() -> Iterator[Observer]:
    """Run an observer on loopback for the block."""
    observer = Observer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            length = int(headers.get("content-length", 0))
            body = self.rfile.read(length)
            if len(body) < length:  # the sender was killed
                self.close_connection = True
                return
            post = observer.take(self.path, headers, body)
            if post.status is None:
                self.close_connection = True
                return
            said = b'{"outcome":"%b"}' % (post.outcome or "").encode()
            self.send_response(post.status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Log nothing: the log is `posts`."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """Log nothing: the sender may have been killed."""

    server = Server(("127.0.0.1", 0), Handler)
    observer.port = server.server_address[1]
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), name="observer")
    serving.start()
    try:
        yield observer
    finally:
        for gate in observer.gates.values():
            gate.set()
        server.shutdown()
        serving.join()
        server.server_close()
