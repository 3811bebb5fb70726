"""What is to be written of a course in ELMS's Moodle: who may get which grade, and who not why."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from contract.grades import Score
from receiver.gradebook.database import ScoreCounts
from receiver.moodle.grade_report import PLACES, UserGrades, exact
from receiver.sources.base import PersonProblem


@dataclass(frozen=True)
class CurrentGrade:
    """A student's grade in an activity as it stands, and the range that it may lie in."""

    given: Decimal | None
    least: Decimal
    most: Decimal


@dataclass(frozen=True)
class GradeChange:
    """A grade to be written: whose it is, there and here, what it is, and what it replaces."""

    student: int
    user_id: str
    grade: Decimal
    before: Decimal | None


@dataclass(frozen=True)
class GradeDiff:
    """What is to be written of one course, what stands already, and what cannot be written."""

    steps: tuple[GradeChange, ...]
    unchanged: int
    problems: tuple[PersonProblem, ...]


def standings(users: Iterable[UserGrades], activity: str) -> dict[int, CurrentGrade | None]:
    """Return who is a student of a course, with the grade in an activity; None without one."""
    return {user.user_id: _standing(user, activity) for user in users if user.user_id is not None}


def plan(
    scores: Sequence[Score],
    bearers: Callable[[str], tuple[int, ...]],
    standing: dict[int, CurrentGrade | None],
) -> GradeDiff:
    """Return what differs from how it stands; the last score of a user counts."""
    steps: list[GradeChange] = []
    problems: list[PersonProblem] = []
    unchanged = 0
    for score in {score.user_id: score for score in scores}.values():
        match _step(score, bearers(score.user_id), standing):
            case GradeChange() as step:
                steps.append(step)
            case str(why):
                problems.append(PersonProblem(score.user_id, why))
            case None:
                unchanged += 1
    return GradeDiff(tuple(steps), unchanged, tuple(problems))


def compare(planned: GradeDiff, standing: dict[int, CurrentGrade | None]) -> GradeDiff:
    """Return the plan with those steps that were kept; the others' are problems."""
    kept: list[GradeChange] = []
    lost: list[PersonProblem] = []
    for step in planned.steps:
        now = standing.get(step.student)
        if now is not None and now.given == step.grade:
            kept.append(step)
        else:
            stands = "no grade" if now is None or now.given is None else _spelt(now.given)
            why = f"{_spelt(step.grade)} was written, and {stands} stands there: is it locked?"
            lost.append(PersonProblem(step.user_id, why))
    return GradeDiff(tuple(kept), planned.unchanged, (*planned.problems, *lost))


def counted(done: GradeDiff) -> ScoreCounts:
    """Return how many grades were new, changed and as they stood."""
    added = sum(step.before is None for step in done.steps)
    return ScoreCounts(added, len(done.steps) - added, done.unchanged)


def _standing(user: UserGrades, activity: str) -> CurrentGrade | None:
    for item in user.items:
        # A scale holds words, and points would choose one of them.
        if _is_of(item, activity) and item.get("scaleid") is None:
            try:
                given, least, most = (
                    exact(item.get(key)) for key in ("graderaw", "grademin", "grademax")
                )
            except ValueError:
                return None
            return None if most is None else CurrentGrade(given, least or Decimal(0), most)
    return None


def _is_of(item: dict[str, Any], activity: str) -> bool:
    """Tell whether an item is an activity's own grade: its outcomes are items of it too."""
    of_activity = item.get("itemtype") == "mod" and str(item.get("cmid")) == activity
    return of_activity and not item.get("itemnumber")


def _step(
    score: Score, bearers: tuple[int, ...], standing: dict[int, CurrentGrade | None]
) -> GradeChange | str | None:
    """Return the step, why there can be none, or None where nothing differs."""
    if len(bearers) != 1:
        return f"{len(bearers) or 'no'} users of ELMS have this ID number, and it must be one"
    (student,) = bearers
    if student not in standing:
        return "is not a student of the course in ELMS"
    now = standing[student]
    if now is None:
        return "has no such activity in ELMS, or no range of points in it"
    if score.score_given is None:
        return None if now.given is None else _KEPT.format(given=_spelt(now.given))
    grade = _rescaled(score.score_given, score.score_maximum, now.most)
    if grade is None or not now.least <= grade <= now.most:
        told = f"{_spelt(score.score_given)} of {_spelt(score.score_maximum)}"
        return f"{told} lies outside {_spelt(now.least)} to {_spelt(now.most)} of the activity"
    return None if grade == now.given else GradeChange(student, score.user_id, grade, now.given)


_KEPT = "has no grade any more, but {given} stands in ELMS, which cannot be told to take it back"


def _rescaled(given: Decimal, maximum: Decimal, most: Decimal) -> Decimal | None:
    """Return the points as of another maximum (LTI AGS 2.0, 3.4.8), to Moodle's places."""
    points = given if maximum == most else given / maximum * most
    try:
        return points.quantize(PLACES)
    except InvalidOperation:
        return None


def _spelt(points: Decimal) -> str:
    text = format(points, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
