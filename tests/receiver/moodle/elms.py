"""ELMS as a Moodle on loopback: users, one course and one assignment."""

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from receiver.moodle import users as people
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.gradebook import NEEDED, UPDATE
from receiver.moodle.source import COURSES
from tests.receiver.moodle.fake import FakeMoodle, Form
from tests.receiver.moodle.recordings import RECORDED, Recorded

COURSE, ACTIVITY = "7", "42"
_GRADE = re.compile(r"grades\[(\d+)\]\[studentid\]")


@dataclass
class Elms:
    """The users of ELMS's Moodle with their ID numbers, and the grades of its students."""

    moodle: FakeMoodle
    users: dict[int, str] = field(default_factory=dict)
    grades: dict[int, Decimal | None] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)
    overridden: set[int] = field(default_factory=set)
    shows_locks: bool = True
    item_locked: bool = False
    maximum: int = 100
    scale: bool = False
    multiplier: int = 1
    outcomes: int = 0

    def __post_init__(self) -> None:
        self.moodle.answers.update(
            {
                SITE_INFO: self._site_info,
                people.FUNCTION: self._people,
                FUNCTION: self._report,
                UPDATE: self._update,
                COURSES: self._courses,
            }
        )

    def enrol(self, user: int, id_number: str, grade: str | None = None) -> None:
        """Make a student of the course."""
        self.users[user] = id_number
        self.grades[user] = None if grade is None else Decimal(grade)

    def _site_info(self, _: Form) -> Recorded:
        document = json.loads(RECORDED["site_info"].body)
        document["functions"] = [{"name": name, "version": "1"} for name in NEEDED]
        return _json(document)

    def _people(self, form: Form) -> Recorded:
        wanted = {value.lower() for key, value in form.items() if key.startswith("values[")}
        found = [
            {"id": user, "idnumber": id_number}
            for user, id_number in self.users.items()
            if id_number.lower() in wanted
        ]
        return _json(found)

    def _courses(self, form: Form) -> Recorded:
        wanted = {value for key, value in form.items() if key.startswith("options[ids]")}
        return _json([{"id": int(COURSE)}] if COURSE in wanted else [])

    def _report(self, form: Form) -> Recorded:
        if form["courseid"] != COURSE:
            return RECORDED["course_deleted"]
        return _json({"usergrades": [self._user(user) for user in self.grades], "warnings": []})

    def _user(self, user: int) -> dict[str, Any]:
        grade = self.grades[user]
        item = {
            "itemtype": "mod",
            "cmid": int(ACTIVITY),
            "itemnumber": 0,
            "scaleid": None,
            "locked": self.item_locked,
            "graderaw": None if grade is None else float(grade),
            "gradeislocked": (user in self.locked or self.item_locked)
            if self.shows_locks
            else None,
            "gradeisoverridden": user in self.overridden if self.shows_locks else None,
            "grademin": 1 if self.scale else 0,
            "grademax": self.maximum,
            "rangeformatted": "Fail&ndash;Merit" if self.scale else f"0&ndash;{self.maximum}",
        }
        outcomes = [
            {**item, "itemnumber": 1000 + number, "graderaw": 3, "grademax": 5}
            for number in range(self.outcomes)
        ]
        total = {**item, "itemtype": "course", "cmid": None, "itemnumber": None}
        items = [*outcomes, item, total]
        return {"userid": user, "useridnumber": self.users[user], "gradeitems": items}

    def _update(self, form: Form) -> Recorded:
        if form["activityid"] != ACTIVITY:
            return RECORDED["update_grades_no_activity"]
        if self.item_locked:
            return _json(4)
        # A grade of the user 0 is ignored.
        failed = form.get("grades[0][studentid]") == "0"
        for key in form:
            named = _GRADE.fullmatch(key)
            student = int(form[key]) if named else None
            if named and student in self.locked:
                failed = True
            elif named and student in self.grades and student not in self.overridden:
                written = Decimal(form[f"grades[{named[1]}][grade]"])
                self.grades[student] = min(written * self.multiplier, Decimal(self.maximum))
        return _json(1) if failed else RECORDED["update_grades_answer"]


def _json(document: Any) -> Recorded:
    return Recorded(200, "application/json", json.dumps(document).encode())
