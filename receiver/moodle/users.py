"""The users of ELMS's Moodle by ID number: looked up in batches, and matched with students.

Users of a source with the same ID number are left out before, in `grade_report.grades_of`.
"""

from collections.abc import Container, Iterable
from typing import Any

from foundation.errors import Advice
from receiver.gradebook.base import WriteFailure
from receiver.moodle.client import ElmsMoodle
from receiver.moodle.responses import TRY_LATER, Success
from receiver.sources.base import SiteOutage, Transient

FUNCTION = "core_user_get_users_by_field"

# How many users one request looks up.
MAX_USERS = 100

SHOW_ID_NUMBERS = Advice(
    "Give the token's user moodle/user:viewdetails and moodle/user:viewalldetails in ELMS's "
    "Moodle. Then check that people there have the ID numbers of the source."
)


class UserDirectory:
    """The users that were looked up; an ID number can belong to several users, or to none."""

    def __init__(self, moodle: ElmsMoodle) -> None:
        self._moodle = moodle
        self._ids: dict[str, tuple[int, ...]] = {}

    def look_up(self, id_numbers: Iterable[str]) -> WriteFailure | None:
        """Look up the users with these ID numbers; return why that failed, or None."""
        missing = sorted(set(id_numbers) - self._ids.keys())
        for start in range(0, len(missing), MAX_USERS):
            batch = missing[start : start + MAX_USERS]
            result = self._moodle.call(FUNCTION, {"field": "idnumber", "values": batch})
            if not isinstance(result, Success):
                return result
            users = result.document
            if failure := _unusable(users):
                return failure
            ids: dict[str, set[int]] = {id_number: set() for id_number in batch}
            for user in users:
                # Moodle's database may ignore case; ID numbers are case-sensitive here.
                ids.get(user["idnumber"], set()).add(user["id"])
            self._ids.update({id_number: tuple(sorted(ids[id_number])) for id_number in batch})
        return None

    def knows_any(self, id_numbers: Iterable[str]) -> bool:
        """Return True if one of the ID numbers that were looked up belongs to a user."""
        return any(self._ids.get(id_number) for id_number in id_numbers)

    def match_student(self, id_number: str, students: Container[int]) -> int | str:
        """Return the one user with an ID number that was looked up, or why there is no match.

        A person is matched if exactly one user has the ID number, and is a student of the course.
        """
        ids = self._ids.get(id_number, ())
        if len(ids) != 1:
            return f"{len(ids) or 'no'} users of ELMS have this ID number, expected exactly one"
        return ids[0] if ids[0] in students else "is not a student of the course in ELMS"


def _unusable(document: Any) -> WriteFailure | None:
    if not isinstance(document, list) or not all(isinstance(user, dict) for user in document):
        return Transient("ELMS's own Moodle responded 200, but not with users", TRY_LATER)
    if not all(isinstance(user.get("id"), int) for user in document):
        return Transient("ELMS's own Moodle responded 200, but with users without ids", TRY_LATER)
    if not all(isinstance(user.get("idnumber"), str) for user in document):
        return SiteOutage(
            "ELMS's own Moodle does not show the ID numbers of users", SHOW_ID_NUMBERS
        )
    return None
