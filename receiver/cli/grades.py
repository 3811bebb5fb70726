"""Commands about the grades in ELMS's own gradebook."""

import sys
from collections.abc import Mapping

import click

from foundation.cli import output
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID, TEXT
from foundation.db import audit
from foundation.responses import Deleted
from foundation.text import count
from receiver.cli import context
from receiver.cli.context import source_option
from receiver.gradebook import database as gradebook
from receiver.registry import entries as registry
from receiver.sources import store as sources


@click.command()
@click.option("--course", "course_id", type=COURSE_ID, help="Grades of this course.")
@source_option
@click.option("--user", "user_id", type=TEXT, help="Grades of the user with this id.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def forget(
    course_id: str | None, source: str | None, user_id: str | None, yes: bool, as_json: bool
) -> None:
    """Delete stored grades permanently: of a course, of all courses of a source, or of a user.

    With several options, only grades that match all of them.

    The next grade sync stores again what eAssessment still has: forget them there first. Grades in
    ELMS's Moodle are not deleted. On a terminal it asks for confirmation, unless --yes is given.
    """
    if course_id is None and user_id is None and source is None:
        raise click.UsageError("give --course, --source, or --user")
    entry_ids: list[int] | None = None
    with context.reading() as session:
        if course_id is not None:
            chosen = sources.choose(session, source, course_id=course_id)
            entry_ids = [registry.get_any(session, chosen, course_id).id]
        elif source is not None:
            entry_ids = registry.ids_of(session, sources.get(session, source))
        stored = gradebook.count_by_entry(session, entry_ids=entry_ids, user_id=user_id)
    if stored and not yes and sys.stdin.isatty():
        click.confirm(f"Delete {_grades(stored)} permanently?", abort=True)
    with context.writing() as (session, now):
        deleted = gradebook.forget(session, entry_ids=entry_ids, user_id=user_id)
        # Without the user's id, which is to be forgotten too.
        detail = _grades(deleted) + (" of one user" if user_id is not None else "")
        detail += f" in {source}" if source is not None else ""
        audit.record(
            session, context.auditor(), "entry.forget-grades", course_id or "", detail, now=now
        )
        # With its etag, the sync would take a course for unchanged.
        registry.clear_etags(session, deleted)
    sentences = [f"deleted {_grades(deleted)}"]
    if context.services().settings.elms_is_moodle:
        sentences.append("Grades in ELMS's Moodle are not deleted; delete them there.")
    response = Deleted(deleted={"grades": sum(deleted.values())})
    output.print_result(response, *sentences, as_json=as_json)


def _grades(counts: Mapping[int, int]) -> str:
    return f"{count(sum(counts.values()), 'grade')} in {count(len(counts), 'course')}"
