"""The courses of a Moodle that a file names by their ID number, found with the site-wide token."""

from collections.abc import Sequence
from dataclasses import replace

from foundation import csv_reader
from foundation.csv_reader import Fault
from foundation.errors import Advice
from receiver.errors import CourseLookupError
from receiver.moodle.source import COURSES_BY_FIELD, MoodleGradeSource
from receiver.registry import csv_files
from receiver.registry.csv_files import RegistryRow
from receiver.sources.base import GradeSource, SourceFactory


def resolve(rows: Sequence[RegistryRow], clients: SourceFactory) -> list[RegistryRow]:
    """Return the rows, each with the id of its course.

    Each ID number is a request to its Moodle. Raises CourseLookupError if a Moodle cannot be asked,
    or CsvError if an ID number does not belong to one course, or two rows name the same course.
    """
    opened: dict[int, GradeSource] = {}
    resolved: list[RegistryRow] = []
    faults: list[Fault] = []
    for row in rows:
        if not row.id_number:
            resolved.append(row)
            continue
        client = opened.get(row.source.id) or opened.setdefault(
            row.source.id, clients.open(row.source)
        )
        ids = _look_up(client, row)
        if len(ids) == 1:
            resolved.append(replace(row, course_id=ids[0], id_number=""))
        else:
            found = f"the site-wide token of {row.source.name} sees {len(ids) or 'no'} courses"
            fault = f"{csv_files.ID_NUMBER}: {found} with this ID number, expected exactly one"
            faults.append(Fault(row.line, fault))
    csv_reader.refuse([*faults, *csv_files.repeated(resolved)])
    return resolved


def _look_up(client: GradeSource, row: RegistryRow) -> list[str]:
    name = row.source.name
    advice = Advice(
        f"Enter a site-wide token whose service allows {COURSES_BY_FIELD}, and whose user sees "
        "all courses.",
        "sources set-site-token",
        (name,),
    )
    found = (
        client.courses_with_id_number(row.source.url, row.id_number)
        if isinstance(client, MoodleGradeSource)
        else None
    )
    if found is None:
        detail = f"{name} has no site-wide token, which finds courses by ID number"
        raise CourseLookupError(detail, advice=advice)
    if not isinstance(found, list):
        detail = f"the courses of {name} cannot be found by ID number: {found.detail}"
        raise CourseLookupError(detail, advice=getattr(found, "advice", advice))
    return found
