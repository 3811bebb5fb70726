"""A Moodle's grade report, and its course totals as scores."""

import hashlib
import html
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from contract import strict_json
from contract.grades import ActivityProgress, GradingProgress, Score, parse_user_id, rounded
from contract.validation import validation_message
from receiver.sources.base import Grades, PersonProblem

# Returns the grades of all users of a course, or of those that the token's user may see.
FUNCTION = "gradereport_user_get_grade_items"

# Moodle leaves out a hidden total; one that is calculated from a hidden grade is null.
_HIDDEN = (
    "the course total is not shown: it or a grade in it is hidden from the token's user "
    "(moodle/grade:viewhidden)"
)

# What Moodle shows as the range of an item with points, as numbers or percentages.
_NUMBER = r"-?[0-9][0-9.,\s]*%?"
_POINTS = re.compile(rf"\s*{_NUMBER}\s*[-\u2013]\s*{_NUMBER}\s*", re.ASCII)


class ReportError(ValueError):
    """The document is not a grade report; says what is missing."""


@dataclass(frozen=True)
class UserGrades:
    """One user's part of the report."""

    moodle_user_id: int | None
    id_number: str
    items: tuple[dict[str, Any], ...]


def report_of(document: Any) -> list[UserGrades]:
    """Return the users of a grade report, or raise ReportError."""
    listed = document.get("usergrades") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(user, dict) for user in listed):
        raise ReportError("responded 200, but not with grades: no list of usergrades")
    users = []
    for user in listed:
        row_id, id_number, items = (user.get(k) for k in ("userid", "useridnumber", "gradeitems"))
        users.append(
            UserGrades(
                row_id if isinstance(row_id, int) else None,
                id_number if isinstance(id_number, str) else "",
                tuple(item for item in items if isinstance(item, dict))
                if isinstance(items, list)
                else (),
            )
        )
    return users


def grades_of(document: Any, *, now: datetime) -> Grades:
    """Return the scores of a grade report, or raise ReportError.

    A person who cannot be identified, or whose grade cannot be stored, is left out. The ETag is of
    the whole report, and None if anyone was left out, so that it is fetched again.
    """
    users = report_of(document)
    count = Counter(_comparison_key(user.id_number) for user in users)
    scores: list[Score] = []
    left_out: list[PersonProblem] = []
    for user in users:
        same = count[_comparison_key(user.id_number)]
        if not user.id_number.strip():
            problem = PersonProblem(None, f"user {user.moodle_user_id} there has no ID number")
        elif same > 1:
            detail = (
                f"{same} users there have this ID number: user {user.moodle_user_id} is one of them"
            )
            problem = PersonProblem(user.id_number, detail)
        else:
            try:
                scores.append(_score(user, now))
                continue
            except ValueError as error:
                problem = PersonProblem(user.id_number, _reason(error))
        left_out.append(problem)
    etag = None
    if not left_out:
        # One user at a time, because a report is large.
        digest = hashlib.sha256()
        for user_grades in document["usergrades"]:
            digest.update(strict_json.dump(_as_text(user_grades)).encode("utf-8") + b"\n")
        etag = f'"moodle-{digest.hexdigest()}"'
    return Grades(tuple(scores), etag, left_out=tuple(left_out))


def _comparison_key(id_number: str) -> str:
    try:
        return parse_user_id(id_number)
    except ValueError:
        return id_number


def to_decimal(value: object) -> Decimal | None:
    """Return a grade to Moodle's five decimal places, None for none, or raise ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("the grade is not a number")
    return rounded(Decimal(value))


def is_scale(item: dict[str, Any], minimum: Decimal | None) -> bool:
    """Return True if an item may be graded by a scale: a number would select one of its words.

    Moodle names no scale, and shows its range in words. A scale counts from 1; an item with points
    usually has the minimum 0.
    """
    shown = item.get("rangeformatted")
    text = html.unescape(re.sub(r"<[^>]*>", "", shown)) if isinstance(shown, str) else ""
    in_words = text.strip() not in {"", "-"} and not _POINTS.fullmatch(text.replace("\xa0", " "))
    return item.get("scaleid") is not None or minimum == 1 or in_words


def _score(user: UserGrades, now: datetime) -> Score:
    """Return a user's course total as a score, or raise ValueError."""
    totals = [item for item in user.items if item.get("itemtype") == "course"]
    if len(totals) != 1:
        raise ValueError(f"{len(totals)} course totals instead of one" if totals else _HIDDEN)
    total = totals[0]
    minimum = to_decimal(total.get("grademin"))
    if is_scale(total, None):
        raise ValueError("the course total is graded by a scale, not by points")
    if minimum:
        # Its share of the maximum is not the percentage that Moodle shows.
        raise ValueError(f"the course total counts from {minimum.normalize():f}, not from 0")
    given = to_decimal(total.get("graderaw"))
    if given is None and (why := _why_withheld(total)):
        raise ValueError(why)
    graded, submitted = _time(total, "gradedategraded"), _time(total, "gradedatesubmitted")
    if given is not None:
        progress = ActivityProgress.COMPLETED, GradingProgress.FULLY_GRADED
    elif submitted:
        progress = ActivityProgress.SUBMITTED, GradingProgress.PENDING
    else:
        progress = ActivityProgress.INITIALIZED, GradingProgress.NOT_READY
    return Score.model_validate(
        {
            "user_id": user.id_number,
            "score_given": given,
            "score_maximum": to_decimal(total.get("grademax")),
            "comment": total.get("feedback") or None,
            "timestamp": graded or submitted or now,
            "activity_progress": progress[0],
            "grading_progress": progress[1],
        }
    )


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False, include_input=False)[0]
    return "".join(f"{part}: " for part in fault["loc"]) + validation_message(fault)


def _why_withheld(total: dict[str, Any]) -> str | None:
    """Return why Moodle may withhold a total that it sends as null, or None.

    It sends null for a person without a grade as well, but then without a date.
    """
    if total.get("gradeneedsupdate") is True:
        return "the course total is not calculated yet: check the gradebook setup there"
    if total.get("gradedategraded"):
        return _HIDDEN
    return None


def _time(item: dict[str, Any], key: str) -> datetime | None:
    seconds = item.get(key)
    if not isinstance(seconds, int) or not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{key} is out of range") from None


def _as_text(value: Any) -> Any:
    """Return a document with its Decimals as text, which is exact in JSON."""
    if isinstance(value, dict):
        return {key: _as_text(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_as_text(part) for part in value]
    return str(value) if isinstance(value, Decimal) else value
