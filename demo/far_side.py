"""What eAssessment and ELMS saw, by their own logs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request for grades that eAssessment answered."""

    course_id: str
    status: int

    @property
    def refused(self) -> bool:
        """Whether it was answered with a refusal."""
        return self.status >= 400


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log that are JSON objects."""
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def asked_for_grades(log: Path) -> list[Asked]:
    """Return the requests for grades that eAssessment's log tells of, in their order."""
    return [
        Asked(_course_id(line["url"]), line["status"])
        for line in lines(log)
        if line["event"] == "request answered" and line["url"].endswith("/grades")
        if line["method"] == "GET"
    ]


def heard(log: Path) -> dict[str, tuple[str, datetime]]:
    """Return, by webhook-id, the last outcome that ELMS's log tells of, and when."""
    return {
        line["webhook_id"]: (line["outcome"], datetime.fromisoformat(line["timestamp"]))
        for line in lines(log)
        if line["event"] == "webhook taken in"
    }


def _course_id(url: str) -> str:
    return unquote(urlsplit(url).path).removeprefix("/api/v1/courses/").removesuffix("/grades")
