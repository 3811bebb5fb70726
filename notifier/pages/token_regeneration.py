"""Regeneration of many tokens: a confirmation page, then one transaction; they are shown once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from flask import Blueprint, flash, g, render_template, url_for
from sqlalchemy.orm import Session

from contract.tokens import CourseToken
from foundation import logging
from foundation.csv_reader import CsvError
from foundation.db import audit
from foundation.pages import forms, redirects
from foundation.pages.guards import signed_in_file
from foundation.pages.sessions import actor
from notifier import services
from notifier.courses import service as courses
from notifier.courses import token_claims, token_file
from notifier.models import Course
from notifier.pages import course_selection
from notifier.pages.course_selection import SHOWN, SelectedCourses, Selection
from notifier.webhooks import endpoints

token_regeneration = Blueprint("token_regeneration", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

MAX_REGENERATED = 5000
"""The limit of tokens that are regenerated at once; other writers wait meanwhile."""
OVERLAPS = {
    "none": ("not at all", timedelta(0)),
    "1h": ("1 hour", timedelta(hours=1)),
    "24h": ("24 hours", timedelta(hours=24)),
    "7d": ("7 days", timedelta(days=7)),
}
"""How long the old token stays good after a regeneration; the first is the default."""
OverlapName = Literal["none", "1h", "24h", "7d"]


class TokenSelection(Selection):
    """The courses, the state that the confirmation showed, and how long old tokens stay good."""

    state: str = ""
    overlap: OverlapName = "24h"


@dataclass(frozen=True)
class _Courses:
    """Selected courses: those whose tokens are regenerated, and the others."""

    changed: list[Course]
    of_moodle: list[Course]
    others: SelectedCourses

    @property
    def state(self) -> str:
        """A digest of ids and versions: a form that is sent twice has another one by then."""
        versions = "\n".join(f"{row.course_id} {row.version}" for row in self.changed)
        return hashlib.sha256(versions.encode()).hexdigest()


@token_regeneration.post("/courses/tokens")
@signed_in_file
def preview() -> str | tuple[str, int]:
    """Show what regenerating the tokens does, without changing anything."""
    selection = TokenSelection.of_form()
    try:
        ids = _ids(selection, forms.pasted_or_uploaded())
    except CsvError as refusal:
        return course_selection.refused(refusal)
    with services.current().database.reading() as session:
        return _preview(session, selection, _find(session, ids))


@token_regeneration.post("/courses/tokens/confirmed")
@signed_in_file
def regenerate() -> str | tuple[str, int]:
    """Regenerate all tokens in one transaction, and show the new ones.

    In several transactions, a failure would lose the tokens of the first ones.
    """
    selection = TokenSelection.of_form()
    ids = _ids(selection, selection.text)
    _, overlap = OVERLAPS[selection.overlap]
    with services.current().writing() as (session, now):
        courses.lock_known(session, ids)
        found = _find(session, ids)
        if found.state != selection.state:
            flash(
                "The courses have changed since, or this form was sent twice. Check them again.",
                "error",
            )
            return _preview(session, selection, found), 409
        results = courses.regenerate_tokens(
            session,
            [row.course_id for row in found.changed],
            overlap=overlap,
            vault=services.current().vault,
            now=now,
        )
        tokens = {one: token for one, token in results.items() if isinstance(token, CourseToken)}
        valid_until = courses.end_of(overlap, now=now)
        details = {
            one: courses.describe_regeneration(token, valid_until) for one, token in tokens.items()
        }
        audit.record_all(
            session, actor(), "course.regenerate-token", tokens, details=details, now=now
        )
        first = next(iter(tokens.values()), None)
        claimable = first is not None and token_claims.is_kept(session, first)
    _log.info("tokens regenerated", courses=len(tokens), user=g.current_user.name)
    return render_template(
        "notifier/tokens_regenerated.html",
        number=len(tokens),
        tokens=token_file.document(tokens),
        valid_until=valid_until,
        claimable=claimable,
    )


def _ids(selection: Selection, text: str) -> list[str]:
    return selection.ids(text, limit=MAX_REGENERATED, command="courses regenerate-token")


def _find(session: Session, ids: Sequence[str]) -> _Courses:
    selected = SelectedCourses.of(session, ids)
    issued = courses.current_tokens(session, [row.id for row in selected.active])
    return _Courses(
        [row for row in selected.active if row.id in issued],
        [row for row in selected.active if row.id not in issued],
        selected,
    )


def _preview(session: Session, selection: TokenSelection, found: _Courses) -> str:
    return render_template(
        "notifier/tokens_regenerate.html",
        selection=selection,
        found=found,
        shown=SHOWN,
        overlaps=[(value, word) for value, (word, _) in OVERLAPS.items()],
        subscribers=endpoints.subscribed_to(session, "token.regenerated"),
        claimable=token_claims.has_claimant(session),
        cancel_url=redirects.referring_page() or url_for("courses.listed"),
    )
