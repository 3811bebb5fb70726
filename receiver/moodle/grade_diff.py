"""The grades to write into a course of ELMS's Moodle, and why some cannot be written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from contract.grades import Score, rounded
from receiver.gradebook.base import ScoreCounts
from receiver.moodle.grade_report import UserGrades, is_scale, to_decimal
from receiver.moodle.users import UserDirectory
from receiver.sources.base import PersonProblem


class UnwritableReason(StrEnum):
    """Why points cannot be written into a student's grade: no such item, or no points in it."""

    NO_ITEM = "has no such activity in ELMS, or a hidden grade (moodle/grade:viewhidden)"
    SCALE = "has this activity in ELMS with a scale instead of points"
    UNREADABLE = "has this activity in ELMS without a range of points"


@dataclass(frozen=True)
class CurrentGrade:
    """A student's current grade in an activity, and its range.

    `kept_because`: Moodle keeps a grade that was locked or overridden, whatever is written.
    """

    given: Decimal | None
    minimum: Decimal
    maximum: Decimal
    kept_because: str | None = None


Current = dict[int, CurrentGrade | UnwritableReason]
"""What the students of a course have in an activity, by Moodle's user id."""


@dataclass(frozen=True)
class GradeChange:
    """A grade to write: whose it is in Moodle and in the source, and what it was before."""

    moodle_user_id: int
    user_id: str
    grade: Decimal
    before: Decimal | None


@dataclass(frozen=True)
class GradeDiff:
    """The grades of one course to write, how many are unchanged, and what cannot be written."""

    changes: tuple[GradeChange, ...]
    unchanged: int
    problems: tuple[PersonProblem, ...]


def current_grades(users: Iterable[UserGrades], activity: str) -> Current:
    """Return the students of a course with their grade in an activity."""
    return {
        user.moodle_user_id: _current(user, activity)
        for user in users
        if user.moodle_user_id is not None
    }


def compare(scores: Sequence[Score], users: UserDirectory, current: Current) -> GradeDiff:
    """Return what differs from the current grades."""
    changes: list[GradeChange] = []
    problems: list[PersonProblem] = []
    unchanged = 0
    for score in scores:
        match _change(score, users.match_student(score.user_id, current), current):
            case GradeChange() as change:
                changes.append(change)
            case PersonProblem() as problem:
                problems.append(problem)
            case None:
                unchanged += 1
    return GradeDiff(tuple(changes), unchanged, tuple(problems))


def verify(diff: GradeDiff, current: Current) -> GradeDiff:
    """Return the diff with the changes that were read back; the others become problems."""
    verified: list[GradeChange] = []
    lost: list[PersonProblem] = []
    for change in diff.changes:
        now = current.get(change.moodle_user_id)
        given = now.given if isinstance(now, CurrentGrade) else None
        if given == change.grade:
            verified.append(change)
        elif isinstance(now, CurrentGrade) and now.kept_because:
            lost.append(_kept(change.user_id, now))
        else:
            actual = _shown_or_none(given)
            detail = f"{_shown(change.grade)} was written, but ELMS has {actual}"
            lost.append(PersonProblem(change.user_id, detail))
    return GradeDiff(tuple(verified), diff.unchanged, (*diff.problems, *lost))


def counts(diff: GradeDiff) -> ScoreCounts:
    """Return how many grades were added, changed and unchanged."""
    added = sum(change.before is None for change in diff.changes)
    return ScoreCounts(added, len(diff.changes) - added, diff.unchanged)


def _current(user: UserGrades, activity: str) -> CurrentGrade | UnwritableReason:
    for item in user.items:
        # An item with a number is an outcome of the activity.
        of_activity = item.get("itemtype") == "mod" and str(item.get("cmid")) == activity
        if of_activity and not item.get("itemnumber"):
            return _grade_in(item)
    return UnwritableReason.NO_ITEM


def _grade_in(item: dict[str, Any]) -> CurrentGrade | UnwritableReason:
    try:
        given, minimum, maximum = (
            to_decimal(item.get(key)) for key in ("graderaw", "grademin", "grademax")
        )
    except ValueError:
        return UnwritableReason.UNREADABLE
    if is_scale(item, minimum):
        return UnwritableReason.SCALE
    if maximum is None:
        return UnwritableReason.UNREADABLE
    return CurrentGrade(given, minimum or Decimal(0), maximum, _kept_because(item))


def _kept_because(item: dict[str, Any]) -> str | None:
    if item.get("gradeislocked") is True or item.get("locked") is True:
        return "locked"
    return "overridden" if item.get("gradeisoverridden") is True else None


def _change(
    score: Score, matched: int | str, current: Current
) -> GradeChange | PersonProblem | None:
    """Return the change, or why none can be made, or None if nothing differs.

    `matched` is the id of the matched user, or why there is none.
    """
    user_id = score.user_id
    if isinstance(matched, str):
        return PersonProblem(user_id, matched)
    now = current[matched]
    if isinstance(now, UnwritableReason):
        return PersonProblem(user_id, now.value)
    given = score.score_given
    grade = None if given is None else _rescaled(given, score.score_maximum, now)
    if isinstance(grade, str):
        return PersonProblem(user_id, grade)
    if grade == now.given:
        return None
    if now.kept_because:
        return _kept(user_id, now)
    if grade is None:
        detail = (
            f"no longer has a grade, but ELMS has {_shown_or_none(now.given)}, "
            "which its web service cannot remove"
        )
        return PersonProblem(user_id, detail)
    return GradeChange(matched, user_id, grade, now.given)


def _rescaled(given: Decimal, maximum: Decimal, now: CurrentGrade) -> Decimal | str:
    """Return the points on the activity's maximum (LTI AGS 2.0, 3.4.8), or why they do not fit."""
    try:
        grade = rounded(given if maximum == now.maximum else given * now.maximum / maximum)
    except ValueError as error:
        return str(error)
    if now.minimum <= grade <= now.maximum:
        return grade
    return (
        f"{_shown(given)} of {_shown(maximum)} is outside the activity's range of "
        f"{_shown(now.minimum)} to {_shown(now.maximum)}"
    )


def _kept(user_id: str, now: CurrentGrade) -> PersonProblem:
    return PersonProblem(
        user_id, f"ELMS has {_shown_or_none(now.given)}, {now.kept_because} there", kept=True
    )


def _shown_or_none(points: Decimal | None) -> str:
    return "no grade" if points is None else _shown(points)


def _shown(points: Decimal) -> str:
    text = format(points, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
