"""CSV files of grades, in our own format or as exported by a Moodle."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contract.grades import Score
from foundation import csv_reader
from foundation.csv_reader import CsvError, Row, Table
from foundation.errors import Advice
from notifier.courses import moodle_export
from notifier.courses.moodle_export import ExportOptions, ExportSource

REQUIRED = ("course_id", "user_id", "score_given", "score_maximum")
OPTIONAL = ("comment", "timestamp", "activity_progress", "grading_progress")
_KNOWN = frozenset((*REQUIRED, *OPTIONAL, moodle_export.ID_NUMBER))
_NO_OPTIONS = ExportOptions()
_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class GradesFile:
    """The scores of a file by course id; for Moodle's export also which column they are from."""

    scores: dict[str, list[Score]]
    source: ExportSource | None = None


def read(text: str, options: ExportOptions = _NO_OPTIONS, *, now: datetime) -> GradesFile:
    """Return the scores of a CSV file; a score without a timestamp gets `now`.

    The first line has the columns `REQUIRED` and any of `OPTIONAL`, or those of Moodle's grade
    export, which needs `options.course_id`. An empty `score_given` means not graded yet. Raises
    CsvError with every invalid line; then nothing is returned.
    """
    table = Table(text, _KNOWN)
    if set(table.columns).isdisjoint(REQUIRED):
        if moodle_export.ID_NUMBER in table.columns:
            return _read_export(table, options, now)
        raise _unrecognised(table.columns)
    table.check_columns(REQUIRED, OPTIONAL)
    if options.maximum is not None or options.item is not None:
        raise CsvError(
            "--maximum and --item are only for Moodle's grade export",
            advice=Advice("Run the command again without these options."),
        )
    parsed, faults = table.parse(
        lambda line, row: (line, _course_id(row, options), _score(row, now))
    )
    repeated = csv_reader.repeated(
        (line, (course_id, score.user_id)) for line, course_id, score in parsed
    )
    csv_reader.refuse([*faults, *repeated])
    scores: defaultdict[str, list[Score]] = defaultdict(list)
    for _, course_id, score in parsed:
        scores[course_id].append(score)
    return GradesFile(dict(scores))


def _read_export(table: Table, options: ExportOptions, now: datetime) -> GradesFile:
    if options.course_id is None:
        raise CsvError(
            "this is Moodle's grade export, which does not say which course it is of",
            advice=Advice("Name the course with --course."),
        )
    scores, source = moodle_export.read(table, options, now=now)
    return GradesFile({options.course_id: scores}, source)


def _unrecognised(names: Sequence[str]) -> CsvError:
    shown = ", ".join(name[:100] for name in names[:_SHOWN_COLUMNS]) or "nothing"
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return CsvError(
        f"line 1: expected the columns {', '.join(REQUIRED)}, or Moodle's grade export with its "
        f"column {moodle_export.ID_NUMBER!r}; found: {shown}{more}",
        advice=Advice(
            "Put the column names in the first line; export from Moodle in English, as CSV with "
            "the users' ID numbers."
        ),
    )


def _course_id(row: Row, options: ExportOptions) -> str:
    course_id = row["course_id"]
    if not course_id:
        raise ValueError("course_id is empty")
    if options.course_id not in (None, course_id):
        raise ValueError("course_id differs from --course")
    return course_id


def _score(row: Row, now: datetime) -> Score:
    fields = {name: value for name, value in row.items() if value and name != "course_id"}
    return Score.model_validate({"timestamp": now, **fields}, strict=False)
