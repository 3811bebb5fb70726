"""A Moodle's grade report, and its course totals as scores."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import ValidationError

from contract import strict_json
from contract.grades import ActivityProgress, GradingProgress, Score
from foundation.text import validation_message
from receiver.sources.base import Grades, PersonProblem

# Returns the grades of all users of a course, or of those that the token's user may see.
FUNCTION = "gradereport_user_get_grade_items"

# The precision of grades in Moodle.
DECIMAL_PLACES = Decimal("0.00001")


class ReportError(ValueError):
    """The document is not a grade report; says what is missing."""


@dataclass(frozen=True)
class UserGrades:
    """One user's part of the report."""

    user_id: int | None
    id_number: str
    items: tuple[dict[str, Any], ...]


def report_of(document: Any) -> list[UserGrades]:
    """Return the users of a grade report, or raise ReportError."""
    listed = document.get("usergrades") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ReportError("responded 200, but not with grades: no list of usergrades")
    return [_user(one) for one in listed]


def grades_of(document: Any, *, now: datetime) -> Grades:
    """Return the scores of a grade report, or raise ReportError.

    A person who cannot be identified, or whose grade cannot be stored, is left out. The ETag is of
    the whole report, and None if anyone was left out, so that it is fetched again.
    """
    scores: list[Score] = []
    left_out: list[PersonProblem] = []
    for one in _scores(report_of(document), now):
        if isinstance(one, Score):
            scores.append(one)
        else:
            left_out.append(one)
    etag = None if left_out else _etag(document["usergrades"])
    return Grades(tuple(scores), etag, left_out=tuple(left_out))


def to_decimal(value: object) -> Decimal | None:
    """Return a grade to Moodle's five decimal places, None for none, or raise ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("the grade is not a number")
    try:
        return Decimal(value).quantize(DECIMAL_PLACES)
    except InvalidOperation:
        raise ValueError("the grade is too large") from None


def _user(one: dict[str, Any]) -> UserGrades:
    user_id, id_number, items = (one.get(k) for k in ("userid", "useridnumber", "gradeitems"))
    return UserGrades(
        user_id if isinstance(user_id, int) else None,
        id_number if isinstance(id_number, str) else "",
        tuple(item for item in items if isinstance(item, dict)) if isinstance(items, list) else (),
    )


def _scores(users: Iterable[UserGrades], now: datetime) -> Iterator[Score | PersonProblem]:
    users = list(users)
    count = Counter(user.id_number for user in users)
    for user in users:
        if not user.id_number.strip():
            yield PersonProblem(None, f"user {user.user_id} there has no ID number")
        elif count[user.id_number] > 1:
            detail = f"{count[user.id_number]} users there have this ID number"
            yield PersonProblem(user.id_number, f"{detail}: user {user.user_id} is one of them")
        else:
            yield _score(user, now)


def _score(user: UserGrades, now: datetime) -> Score | PersonProblem:
    totals = [item for item in user.items if item.get("itemtype") == "course"]
    if len(totals) != 1:
        detail = f"{len(totals)} course totals instead of one: is it hidden?"
        return PersonProblem(user.id_number, detail)
    try:
        return _score_of(user.id_number, totals[0], now)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = "".join(f"{part}: " for part in fault["loc"])
        detail = f"{field}{validation_message(fault)}"
        return PersonProblem(user.id_number, detail)
    except ValueError as error:
        return PersonProblem(user.id_number, str(error))


def _score_of(id_number: str, total: dict[str, Any], now: datetime) -> Score:
    given = to_decimal(total.get("graderaw"))
    if given is None and (why := _withheld(total)):
        raise ValueError(why)
    graded, submitted = _time(total, "gradedategraded"), _time(total, "gradedatesubmitted")
    activity, grading = _progress(given, submitted)
    return Score.model_validate(
        {
            "user_id": id_number,
            "score_given": given,
            "score_maximum": to_decimal(total.get("grademax")),
            "comment": total.get("feedback") or None,
            "timestamp": graded or submitted or now,
            "activity_progress": activity,
            "grading_progress": grading,
        }
    )


def _withheld(total: dict[str, Any]) -> str | None:
    """Return why a total that is null may exist all the same, or None.

    Moodle sends null for a person without a grade, too; only a grade has a date.
    """
    if total.get("gradeneedsupdate") is True:
        return "the course total is not calculated yet: check the gradebook setup there"
    if total.get("gradeishidden") is True and total.get("gradedategraded"):
        return "the course total is hidden from the token's user (moodle/grade:viewhidden)"
    return None


def _progress(
    given: Decimal | None, submitted: datetime | None
) -> tuple[ActivityProgress, GradingProgress]:
    if given is not None:
        return ActivityProgress.COMPLETED, GradingProgress.FULLY_GRADED
    if submitted:
        return ActivityProgress.SUBMITTED, GradingProgress.PENDING
    return ActivityProgress.INITIALIZED, GradingProgress.NOT_READY


def _time(item: dict[str, Any], key: str) -> datetime | None:
    seconds = item.get(key)
    if not isinstance(seconds, int) or not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{key} is out of range") from None


def _etag(usergrades: list[Any]) -> str:
    """Return the ETag of a whole report, hashed one user at a time because it is large."""
    digest = hashlib.sha256()
    for one in usergrades:
        digest.update(strict_json.dump(_as_text(one)).encode("utf-8") + b"\n")
    return f'"moodle-{digest.hexdigest()}"'


def _as_text(value: Any) -> Any:
    """Return a document with its Decimals as text, which is exact in JSON."""
    if isinstance(value, dict):
        return {key: _as_text(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_as_text(part) for part in value]
    return str(value) if isinstance(value, Decimal) else value
