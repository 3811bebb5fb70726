"""Files of grades: told apart by their first line, then read whole or refused whole."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contract.grades import Score
from foundation import csv_reader
from foundation.csv_reader import CsvError, Row, Table
from notifier.courses import moodle_export
from notifier.courses.moodle_export import ExportOptions, ExportSource

REQUIRED = ("course_id", "user_id", "score_given", "score_maximum")
OPTIONAL = ("comment", "timestamp", "activity_progress", "grading_progress")
_KNOWN = frozenset((*REQUIRED, *OPTIONAL, moodle_export.ID_NUMBER))
_NOTHING_CHOSEN = ExportOptions()
_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class GradesFile:
    """The scores of a file by course id; for Moodle's export also what they were taken from."""

    scores: dict[str, list[Score]]
    source: ExportSource | None = None


def read(text: str, chosen: ExportOptions = _NOTHING_CHOSEN, *, now: datetime) -> GradesFile:
    """Return the scores of a CSV file; a score without a timestamp is of `now`.

    The first line names the columns: `REQUIRED`, and any of `OPTIONAL`; or those of Moodle's
    grade export, which needs a chosen course. An empty `score_given` is a score that is not given
    yet. Raises CsvError, naming each line that is wrong.
    """
    table = Table(text, _KNOWN)
    if set(table.columns).isdisjoint(REQUIRED):
        if moodle_export.ID_NUMBER in table.columns:
            return _read_export(table, chosen, now)
        raise _unrecognised(table.columns)
    table.check_columns(REQUIRED, OPTIONAL)
    return GradesFile(_read_own(table, chosen, now))


def _read_export(table: Table, chosen: ExportOptions, now: datetime) -> GradesFile:
    if chosen.course_id is None:
        raise CsvError(
            "this is Moodle's grade export, which is of one course and does not name it",
            next_step="Name the course with --course, and what its total is out of with "
            f"--maximum unless that is {moodle_export.MAXIMUM}.",
        )
    scores, taken = moodle_export.read(table, chosen, now=now)
    return GradesFile({chosen.course_id: scores}, taken)


def _read_own(table: Table, chosen: ExportOptions, now: datetime) -> dict[str, list[Score]]:
    if chosen.maximum is not None or chosen.item is not None:
        raise CsvError(
            "--maximum and --item are for Moodle's grade export; this file says both by itself",
            next_step="Leave these options out.",
        )
    parsed, faults = table.parse(
        lambda _, row: (_course_id(row, chosen), _score(row, now)),
    )
    csv_reader.refuse(faults)
    scores: defaultdict[str, list[Score]] = defaultdict(list)
    for course_id, score in parsed:
        scores[course_id].append(score)
    return dict(scores)


def _unrecognised(names: Sequence[str]) -> CsvError:
    found = ", ".join(name[:100] for name in names[:_SHOWN_COLUMNS]) or "nothing"
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return CsvError(
        f"line 1: expected the columns {', '.join(REQUIRED)}, or Moodle's grade export with its "
        f"column {moodle_export.ID_NUMBER!r}; found: {found}{more}",
        next_step="Name the columns in the first line; export from Moodle in English, as a CSV "
        "with the users' ID numbers.",
    )


def _course_id(row: Row, chosen: ExportOptions) -> str:
    course_id = row["course_id"]
    if not course_id:
        raise ValueError("course_id is empty")
    if chosen.course_id not in (None, course_id):
        raise ValueError("course_id is another one than --course names")
    return course_id


def _score(row: Row, now: datetime) -> Score:
    fields = {name: value for name, value in row.items() if value and name != "course_id"}
    return Score.model_validate({"timestamp": now, **fields}, strict=False)
