"""Selection of many courses to delete or restore, or to regenerate their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from flask import Blueprint, render_template, request
from sqlalchemy.orm import Session

from foundation import csv_reader
from foundation.csv_reader import CsvError
from foundation.errors import Advice
from foundation.pages import forms
from foundation.pages.error_pages import render_refusal
from foundation.pages.guards import signed_in
from foundation.web.errors import RequestInvalidError
from notifier import services
from notifier.courses import listing
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.models import Course

course_selection = Blueprint("course_selection", __name__, template_folder="templates")

SHOWN = 20
"""The number of courses that a confirmation names."""
SELECT_COURSES = Advice("Go back to the courses and select some of them.")


class Selection(forms.Form):
    """The courses that are ticked, entered as `text`, or `everything` that a search found."""

    course_id: tuple[str, ...] = ()
    text: str = ""
    everything: bool = False
    q: forms.Search = ""

    @classmethod
    def of_form(cls) -> Self:
        """Return the selection that was sent, or raise RequestInvalidError."""
        return forms.require_valid(
            forms.parse_form(cls, lists={"course_id"}), advice=SELECT_COURSES
        )

    def ids(self, text: str, *, limit: int, command: str) -> list[str]:
        """Return the ids of the courses, those in a text too, each once.

        Raises CsvError, and RequestInvalidError for none or more than `limit`; `command` takes
        more.
        """
        criteria = CourseFilter(self.q, deleted=False)
        if self.everything and criteria.is_search:
            with services.current().database.reading() as session:
                ids = listing.ids(session, criteria, limit=limit + 1)
        else:
            listed = (course_id for _, course_id in csv_reader.read_list(text, "course_id"))
            ids = list(dict.fromkeys([*self.course_id, *listed]))
        if not ids:
            raise RequestInvalidError("no course is selected", advice=SELECT_COURSES)
        if len(ids) > limit:
            raise RequestInvalidError(
                f"more than {limit:,} courses are selected, which is too many at once",
                advice=Advice(f"Select fewer, or use `notifier {command}`."),
            )
        return ids


@dataclass(frozen=True)
class SelectedCourses:
    """What is known of selected courses."""

    active: list[Course]
    deleted: list[Course]
    unknown: list[str]

    @classmethod
    def of(cls, session: Session, ids: Sequence[str]) -> Self:
        """Return what is known of the courses with these ids."""
        rows = courses.find_courses(session, ids)
        known = {row.course_id for row in rows}
        return cls(
            [row for row in rows if row.deleted_at is None],
            [row for row in rows if row.deleted_at is not None],
            [course_id for course_id in ids if course_id not in known],
        )


@course_selection.get("/courses/select")
@signed_in
def enter() -> str:
    """Show the form for a list of courses."""
    return _entry_form(None)


def refused(refusal: CsvError) -> tuple[str, int]:
    """Show the form again, with why the list was refused."""
    return _entry_form(render_refusal(refusal)), 422


def _entry_form(fault: str | None) -> str:
    return render_template(
        "notifier/courses_select.html",
        fault=fault,
        text=request.form.get("text", ""),
        can_restore=bool(services.current().settings.grace_period),
    )
