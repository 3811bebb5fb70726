"""A slow eAssessment site whose grades differ with each request."""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from contract.tokens import CourseToken
from tests.loopback import Handler, served


@dataclass
class CountingSource:
    """Responds to batches: score and ETag of each course are how often it was requested.

    So an ETag that is stored without its score, or the reverse, is seen. `slowest` is in seconds.
    After `responses` batches it hangs until it `continues`; `waiting` counts such requests.
    """

    url: str = ""
    slowest: float = 0.05
    course_version: int = 1
    batches: list[int] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    responses: int | None = None
    continues: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the response to a batch."""
        with self.lock:
            hangs = self.responses is not None and len(self.batches) >= self.responses
            self.waiting += hangs
            self.batches.append(len(request["courses"]))
        self.continues.wait(120 if hangs else random.uniform(0, self.slowest))
        with self.lock:
            return {"answers": [self._item(one) for one in request["courses"]]}

    def _item(self, course: dict[str, str]) -> dict[str, Any]:
        course_id = course["course_id"]
        self.requests[course_id] += 1
        number = str(self.requests[course_id])
        score = {
            "userId": "ada",
            "scoreGiven": number,
            "scoreMaximum": "1000000",
            "timestamp": "2026-11-22T09:00:00.000000Z",
        }
        grades = {
            "course_id": course_id,
            "course_version": self.course_version,
            "token_id": CourseToken.parse(course["token"]).token_id,
            "scores": [score],
        }
        return {"course_id": course_id, "status": 200, "etag": f'"{number}"', "grades": grades}


@contextmanager
def counting() -> Iterator[CountingSource]:
    """Serve such a site on loopback."""
    source = CountingSource()

    class Responding(Handler, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(OSError, ValueError):  # the client may have been killed
                body = json.dumps(source.respond(json.loads(raw))).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    with served(Responding) as source.url:
        try:
            yield source
        finally:
            source.continues.set()
