"""A client of eAssessment's admin API."""

from dataclasses import dataclass
from typing import Any

import requests


@dataclass(frozen=True)
class Admin:
    """Calls the admin API of the notifier at a URL."""

    url: str
    key: str

    def add_course(self, course: dict[str, str]) -> str:
        """Add a course and return its token."""
        token: str = self._call("POST", "/courses", json=course)["token"]
        return token

    def last_delivery(self, course_id: str) -> dict[str, Any] | None:
        """Return the newest delivery about a course, if there is one."""
        found = self._call("GET", "/deliveries", params={"course_id": course_id, "limit": 1})
        return next(iter(found["deliveries"]), None)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = requests.request(
            method,
            f"{self.url}/api/v1/admin{path}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=10,
            **options,
        )
        answer.raise_for_status()
        return answer.json()
