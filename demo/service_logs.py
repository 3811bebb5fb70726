"""What eAssessment, a Moodle and ELMS received, from their logs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class RequestedCourse:
    """A course that was requested from eAssessment, the response, and the request."""

    course_id: str
    status: int
    request_id: str

    @property
    def refused(self) -> bool:
        """Whether the request was refused."""
        return self.status >= 400


@dataclass(frozen=True)
class Called:
    """A function call to a Moodle: its courses, and the errorcode of the response."""

    function: str
    courses: tuple[str, ...]
    errorcode: str | None


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log that are JSON objects."""
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def requested_courses(log: Path) -> list[RequestedCourse]:
    """Return the courses that were requested, by eAssessment's log."""
    return [course for line in lines(log) for course in _requested(line)]


def called(log: Path) -> list[Called]:
    """Return the function calls, by a Moodle's log."""
    return [
        Called(line["function"], tuple(line["courses"]), line["errorcode"])
        for line in lines(log)
        if line["event"] == "function called"
    ]


def _requested(line: dict[str, Any]) -> list[RequestedCourse]:
    if line["event"] == "batch in detail":
        return [
            RequestedCourse(course_id, status, line["request_id"])
            for course_id, status in line["statuses"]
        ]
    alone = line["event"] == "request completed" and line["method"] == "GET"
    if alone and line["url"].endswith("/grades"):
        return [RequestedCourse(_course_id(line["url"]), line["status"], line["request_id"])]
    return []


def requests(requested: Sequence[RequestedCourse]) -> int:
    """Return the number of requests."""
    return len({one.request_id for one in requested})


def received_webhooks(log: Path) -> dict[str, tuple[str, datetime]]:
    """Return by webhook-id the last outcome and its time, by ELMS's log."""
    return {
        line["webhook_id"]: (line["outcome"], datetime.fromisoformat(line["timestamp"]))
        for line in lines(log)
        if line["event"] == "webhook accepted"
    }


def _course_id(url: str) -> str:
    return unquote(urlsplit(url).path).removeprefix("/api/v1/courses/").removesuffix("/grades")
