"""A site whose grades are others each time they are asked for, and which takes its time."""

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

WHO = "ada"


@dataclass
class CountingSource:
    """Answers batches: the score of each course, and its entity tag, are how often it was told.

    So a tag that is kept without its score, or the reverse, is seen. `slowest` is in seconds. After
    `answers` batches it hangs until it `goes_on`; `waiting` counts the requests that wait for that.
    """

    url: str = ""
    slowest: float = 0.05
    course_version: int = 1
    batches: list[int] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    answers: int | None = None
    goes_on: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return what a batch is answered."""
        if self._hangs():
            self.goes_on.wait(60)
        self.goes_on.wait(random.uniform(0, self.slowest))
        with self.lock:
            self.batches.append(len(order["courses"]))
            return {"answers": [self._item(one) for one in order["courses"]]}

    def _hangs(self) -> bool:
        with self.lock:
            if self.answers is None or self.goes_on.is_set():
                return False
            self.answers -= 1
            self.waiting += self.answers < 0
            return self.answers < 0

    def _item(self, asked: dict[str, str]) -> dict[str, Any]:
        self.told[asked["course_id"]] += 1
        number = str(self.told[asked["course_id"]])
        score = {
            "userId": WHO,
            "scoreGiven": number,
            "scoreMaximum": "1000000",
            "timestamp": "2026-11-22T09:00:00.000000Z",
        }
        grades = {
            "course_id": asked["course_id"],
            "course_version": self.course_version,
            "token_id": CourseToken.parse(asked["token"]).token_id,
            "scores": [score],
        }
        told = {"etag": f'"{number}"', "grades": grades}
        return {"course_id": asked["course_id"], "status": 200, **told}


@contextmanager
def counting() -> Iterator[CountingSource]:
    """Serve such a site on loopback."""
    there = CountingSource()

    class Answering(Handler, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(OSError, ValueError):  # who asked may have been killed
                body = json.dumps(there.answer(json.loads(raw))).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    with served(Answering) as there.url:
        try:
            yield there
        finally:
            there.goes_on.set()
