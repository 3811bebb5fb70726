"""What eAssessment, a Moodle and ELMS saw, by their own logs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Asked:
    """A course that eAssessment was asked about, what it answered, and in which request."""

    course_id: str
    status: int
    request_id: str

    @property
    def refused(self) -> bool:
        """Whether it was answered with a refusal."""
        return self.status >= 400


@dataclass(frozen=True)
class Called:
    """A function that a Moodle was asked for, about which courses, and its errorcode if any."""

    function: str
    courses: tuple[str, ...]
    errorcode: str | None


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log that are JSON objects."""
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def asked_for_grades(log: Path) -> list[Asked]:
    """Return which courses eAssessment's log says it was asked about, in their order."""
    return [asked for line in lines(log) for asked in _asked(line)]


def called(log: Path) -> list[Called]:
    """Return which functions a Moodle's log says it was asked for, in their order."""
    return [
        Called(line["function"], tuple(line["courses"]), line["errorcode"])
        for line in lines(log)
        if line["event"] == "function called"
    ]


def _asked(line: dict[str, Any]) -> list[Asked]:
    if line["event"] == "batch in detail":
        return [
            Asked(course_id, status, line["request_id"]) for course_id, status in line["statuses"]
        ]
    alone = line["event"] == "request completed" and line["method"] == "GET"
    if alone and line["url"].endswith("/grades"):
        return [Asked(_course_id(line["url"]), line["status"], line["request_id"])]
    return []


def requests(asked: Sequence[Asked]) -> int:
    """Return in how many requests courses were asked about."""
    return len({one.request_id for one in asked})


def heard(log: Path) -> dict[str, tuple[str, datetime]]:
    """Return, by webhook-id, the last outcome that ELMS's log tells of, and when."""
    return {
        line["webhook_id"]: (line["outcome"], datetime.fromisoformat(line["timestamp"]))
        for line in lines(log)
        if line["event"] == "webhook accepted"
    }


def _course_id(url: str) -> str:
    return unquote(urlsplit(url).path).removeprefix("/api/v1/courses/").removesuffix("/grades")
