"""The grades to write into a course of ELMS's Moodle, and why some cannot be written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from contract.grades import Score
from receiver.gradebook.base import ScoreCounts
from receiver.moodle.grade_report import DECIMAL_PLACES, UserGrades, to_decimal
from receiver.moodle.users import UserDirectory
from receiver.sources.base import PersonProblem


@dataclass(frozen=True)
class CurrentGrade:
    """A student's current grade in an activity, and its range."""

    given: Decimal | None
    minimum: Decimal
    maximum: Decimal


@dataclass(frozen=True)
class GradeChange:
    """A grade to write: Moodle's user id, the source's, the new grade, and the current one."""

    student: int
    user_id: str
    grade: Decimal
    before: Decimal | None


@dataclass(frozen=True)
class GradeDiff:
    """The grades of one course to write, how many are unchanged, and what cannot be written."""

    changes: tuple[GradeChange, ...]
    unchanged: int
    problems: tuple[PersonProblem, ...]


def current_grades(users: Iterable[UserGrades], activity: str) -> dict[int, CurrentGrade | None]:
    """Return the students of a course with their grade in an activity; None without a range."""
    return {user.user_id: _current(user, activity) for user in users if user.user_id is not None}


def compare(
    scores: Sequence[Score], users: UserDirectory, current: dict[int, CurrentGrade | None]
) -> GradeDiff:
    """Return what differs from the current grades; the last score of a user counts."""
    changes: list[GradeChange] = []
    problems: list[PersonProblem] = []
    unchanged = 0
    for score in {score.user_id: score for score in scores}.values():
        match _change(score, users.ids_of(score.user_id), current):
            case GradeChange() as change:
                changes.append(change)
            case str(detail):
                problems.append(PersonProblem(score.user_id, detail))
            case None:
                unchanged += 1
    return GradeDiff(tuple(changes), unchanged, tuple(problems))


def verify(diff: GradeDiff, current: dict[int, CurrentGrade | None]) -> GradeDiff:
    """Return the diff with the changes that were read back; the others become problems."""
    verified: list[GradeChange] = []
    lost: list[PersonProblem] = []
    for change in diff.changes:
        now = current.get(change.student)
        if now is not None and now.given == change.grade:
            verified.append(change)
        else:
            actual = "no grade" if now is None or now.given is None else _shown(now.given)
            detail = f"{_shown(change.grade)} was written, but ELMS has {actual}: is it locked?"
            lost.append(PersonProblem(change.user_id, detail))
    return GradeDiff(tuple(verified), diff.unchanged, (*diff.problems, *lost))


def counts(diff: GradeDiff) -> ScoreCounts:
    """Return how many grades were added, changed and unchanged."""
    added = sum(change.before is None for change in diff.changes)
    return ScoreCounts(added, len(diff.changes) - added, diff.unchanged)


def _current(user: UserGrades, activity: str) -> CurrentGrade | None:
    for item in user.items:
        of_activity = item.get("itemtype") == "mod" and str(item.get("cmid")) == activity
        # An item with a number is an outcome of the activity. A scale has words instead of points;
        # a number would select one of them.
        if of_activity and not item.get("itemnumber") and item.get("scaleid") is None:
            try:
                given, minimum, maximum = (
                    to_decimal(item.get(key)) for key in ("graderaw", "grademin", "grademax")
                )
            except ValueError:
                return None
            return None if maximum is None else CurrentGrade(given, minimum or Decimal(0), maximum)
    return None


def _change(
    score: Score, students: tuple[int, ...], current: dict[int, CurrentGrade | None]
) -> GradeChange | str | None:
    """Return the change, or why none can be made, or None if nothing differs."""
    if len(students) != 1:
        return f"{len(students) or 'no'} users of ELMS have this ID number, expected exactly one"
    (student,) = students
    if student not in current:
        return "is not a student of the course in ELMS"
    now = current[student]
    if now is None:
        return "has no such activity in ELMS, or it has no range of points"
    if score.score_given is None:
        if now.given is None:
            return None
        return (
            f"no longer has a grade, but ELMS has {_shown(now.given)}, "
            "which its web service cannot remove"
        )
    # Points on another maximum (LTI AGS 2.0, 3.4.8), to Moodle's decimal places.
    points = score.score_given
    if score.score_maximum != now.maximum:
        points = points / score.score_maximum * now.maximum
    try:
        grade = points.quantize(DECIMAL_PLACES)
    except InvalidOperation:
        grade = None
    if grade is None or not now.minimum <= grade <= now.maximum:
        limits = f"{_shown(now.minimum)} to {_shown(now.maximum)}"
        given = f"{_shown(score.score_given)} of {_shown(score.score_maximum)}"
        return f"{given} is outside the activity's range of {limits}"
    return None if grade == now.given else GradeChange(student, score.user_id, grade, now.given)


def _shown(points: Decimal) -> str:
    text = format(points, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
