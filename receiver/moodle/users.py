"""Who is who in ELMS's Moodle: people by their ID numbers, in batches, remembered for a run."""

from collections.abc import Callable, Iterable
from typing import Any

from receiver.gradebook.base import Failure
from receiver.moodle.responses import LATER, Fine
from receiver.sources.base import SiteOutage, Transient

FUNCTION = "core_user_get_users_by_field"
MOST = 100
"""How many people are looked up by one request."""

Call = Callable[[str, dict[str, Any]], Fine | Failure]
"""Calls a function of ELMS's Moodle."""


class People:
    """The people that were asked for; several can bear one ID number, and some have none."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, ...]] = {}

    def look_up(self, id_numbers: Iterable[str], call: Call) -> Failure | None:
        """Learn who bears these ID numbers, or return why that cannot be told."""
        wanted = sorted(set(id_numbers) - self._known.keys())
        for start in range(0, len(wanted), MOST):
            some = wanted[start : start + MOST]
            answer = call(FUNCTION, {"field": "idnumber", "values": some})
            if not isinstance(answer, Fine):
                return answer
            failure = _unreadable(answer.document)
            if failure:
                return failure
            self._learn(some, answer.document)
        return None

    def bearers(self, id_number: str) -> tuple[int, ...]:
        """Return Moodle's ids of those who bear an ID number that was looked up."""
        return self._known.get(id_number, ())

    def _learn(self, asked: list[str], users: list[dict[str, Any]]) -> None:
        found: dict[str, set[int]] = {id_number: set() for id_number in asked}
        for user in users:
            # Moodle's database may compare without regard to case: here it counts.
            found.get(user["idnumber"], set()).add(user["id"])
        self._known.update({one: tuple(sorted(bearers)) for one, bearers in found.items()})


def _unreadable(document: Any) -> Failure | None:
    if not isinstance(document, list) or not all(isinstance(user, dict) for user in document):
        return Transient("ELMS's own Moodle answered 200, but not with users", LATER)
    if not all(isinstance(user.get("id"), int) for user in document):
        return Transient("ELMS's own Moodle answered 200, but with users without ids", LATER)
    if not all(isinstance(user.get("idnumber"), str) for user in document):
        return SiteOutage("ELMS's own Moodle does not show the ID numbers of users", _SHOW)
    return None


_SHOW = (
    "Give the token's user the capability moodle/user:viewalldetails there, or have the "
    "administrator name the ID number among the shown identities (showuseridentity)."
)
