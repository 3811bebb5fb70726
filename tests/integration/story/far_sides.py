"""Far sides on loopback that answer as no eAssessment should, each at a path of its own."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from contract.problems import Problem, ProblemType
from contract.tokens import CourseToken
from tests.loopback import Handler, served

Document = dict[str, Any]
Say = Callable[["Asked"], None]

ETAG = '"1"'
WHEN = "2026-11-22T09:00:00.000000Z"


@dataclass
class Asked:
    """One request as a far side sees it: of which site, about which courses.

    `known` are those whose grades the asker has.
    """

    handler: BaseHTTPRequestHandler
    there: "FarSides"
    site: str
    course_ids: list[str]
    known: set[str]

    @property
    def is_batch(self) -> bool:
        """Whether several courses are asked about at once."""
        return self.handler.command == "POST"

    def send(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole answer; `_` in a header's name stands for `-`."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def single(self) -> None:
        """Answer about one course as the site means it."""
        status, document = self._meant(self.course_ids[0])
        self.send(status, json.dumps(document).encode() if document else b"", ETag=ETAG)

    def batch(self, answers: list[Document]) -> None:
        """Answer a batch with these."""
        self.send(200, json.dumps({"answers": answers}).encode())

    def items(self) -> list[Document]:
        """Return what a good site would answer of each course in a batch."""
        return [self._item(course_id) for course_id in self.course_ids]

    def _item(self, course_id: str) -> Document:
        status, document = self._meant(course_id)
        told = {"etag": ETAG, "grades": document} if status == 200 else {"problem": document}
        return {"course_id": course_id, "status": status, **told}

    def _meant(self, course_id: str) -> tuple[int, Document]:
        return (304, {}) if course_id in self.known else self.there.meant[self.site, course_id]


@dataclass
class FarSides:
    """Sites by name; `meant` is what each would say of a course, `asked` who asked for what."""

    url: str = ""
    says: dict[str, Say] = field(default_factory=dict)
    meant: dict[tuple[str, str], tuple[int, Document]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def grades(self, site: str, course_id: str, token: CourseToken, *user_ids: str) -> None:
        """Mean grades of a course, the same for each of these people."""
        scores = [
            {"userId": one, "scoreGiven": "7.5", "scoreMaximum": "10", "timestamp": WHEN}
            for one in user_ids
        ]
        self.meant[site, course_id] = (
            200,
            {
                "course_id": course_id,
                "course_version": 1,
                "token_id": token.token_id,
                "scores": scores,
            },
        )

    def gone(self, site: str, course_id: str) -> None:
        """Mean that a course was deleted."""
        facts = {"course_id": course_id, "course_version": 4, "deleted_at": WHEN}
        problem = Problem(ProblemType.COURSE_DELETED, "it was deleted", "Ask nobody.", facts)
        self.meant[site, course_id] = problem.status, problem.document()


def ends_never(asked: Asked) -> None:
    """Send a body that goes on as long as anybody reads."""
    asked.handler.send_response(200)
    asked.handler.end_headers()
    while not asked.there.over.wait(0.01):
        asked.handler.wfile.write(b" " * 4096)


def is_silent(asked: Asked) -> None:
    """Send nothing before all is over."""
    asked.there.over.wait(30)


def breaks_off(asked: Asked) -> None:
    """Send less than was announced."""
    asked.handler.send_response(200)
    asked.handler.send_header("Content-Length", "4096")
    asked.handler.end_headers()
    asked.handler.wfile.write(b'{"answers": [')
    asked.handler.close_connection = True


def says(status: int, body: bytes, **headers: str) -> Say:
    """Return what answers everything with the same."""
    return lambda asked: asked.send(status, body, **headers)


def has_no_batch(asked: Asked) -> None:
    """Know of single courses only, as a site of before."""
    asked.send(404, b"") if asked.is_batch else asked.single()


def in_batches(lie: Callable[[list[Document]], list[Document]]) -> Say:
    """Return what answers a batch with a lie, and the truth to who asks for one course."""

    def say(asked: Asked) -> None:
        asked.batch(lie(asked.items())) if asked.is_batch else asked.single()

    return say


def of_another(item: Document) -> Document:
    """Return the item with the grades of another course."""
    return {**item, "grades": {**item["grades"], "course_id": "ANOTHER"}}


@contextmanager
def serving() -> Iterator[FarSides]:
    """Serve far sides on loopback; what they were not told is a site that answers 404."""
    there = FarSides()

    class Answering(Handler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            course_id = unquote(self.path.split("/")[-2])
            known = {course_id} if self.headers.get("If-None-Match") == ETAG else set()
            self._answer([course_id], known)

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            order = json.loads(raw)["courses"]
            known = {one["course_id"] for one in order if one.get("if_none_match") == ETAG}
            self._answer([one["course_id"] for one in order], known)

        def _answer(self, course_ids: list[str], known: set[str]) -> None:
            site = self.path.split("/")[1]
            there.asked += [(site, course_id) for course_id in course_ids]
            with suppress(OSError):
                there.says.get(site, says(404, b""))(Asked(self, there, site, course_ids, known))

    with served(Answering) as there.url:
        try:
            yield there
        finally:
            there.over.set()
