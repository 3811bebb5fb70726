"""Import of courses, pasted or from a CSV file; the new tokens are shown once."""

from flask import Blueprint, g, render_template, request

from foundation import logging
from foundation.csv_reader import CsvError
from foundation.db import audit
from foundation.errors import Advice
from foundation.pages import forms
from foundation.pages.error_pages import render_refusal
from foundation.pages.guards import signed_in, signed_in_file
from foundation.pages.sessions import actor
from notifier import services
from notifier.courses import course_import as core
from notifier.courses import token_file

course_import = Blueprint("course_import", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

MAX_IMPORTED = 5000
"""The limit of courses in one import; other writers wait meanwhile."""


@course_import.get("/courses/import")
@signed_in
def show() -> str:
    """Show the form for courses."""
    return _form(None)


@course_import.post("/courses/import")
@signed_in_file
def run() -> str | tuple[str, int]:
    """Import all courses in one transaction, and show the new tokens.

    In several transactions, a failure would lose the tokens of the first ones.
    """
    try:
        rows = core.read(forms.pasted_or_uploaded())
        if len(rows) > MAX_IMPORTED:
            raise CsvError(
                f"{len(rows):,} courses; at most {MAX_IMPORTED:,} can be imported at once",
                advice=Advice("Split the file, or import it with `notifier courses import`."),
            )
    except CsvError as refusal:
        return _form(render_refusal(refusal)), 422
    with services.current().writing() as (session, now):
        imported = core.import_courses(session, rows, now=now)
        audit.record_all(session, actor(), "course.add", imported.tokens, "imported", now=now)
        titles = imported.titles
        audit.record_all(session, actor(), "course.set-title", titles, details=titles, now=now)
    _log.info("courses imported", added=imported.counts.added, user=g.current_user.name)
    tokens = token_file.document(imported.tokens)
    return render_template("notifier/courses_imported.html", imported=imported, tokens=tokens)


def _form(fault: str | None) -> str:
    text = request.form.get("text", "course_id,title\n")
    return render_template("notifier/courses_import.html", fault=fault, text=text)
