"""Where grades go in ELMS: the scores of many entries, written in one batch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from contract.grades import Score
from foundation.db import session as db
from receiver.models import StoredScore

_COLUMNS = list(StoredScore.__table__.columns)


@dataclass(frozen=True)
class ScoreCounts:
    """How many scores were new, how many differed, and how many were as they stood."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0

    def __add__(self, other: "ScoreCounts") -> "ScoreCounts":
        return ScoreCounts(
            self.added + other.added,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
        )


def write(session: Session, scores: Mapping[int, Sequence[Score]]) -> dict[int, ScoreCounts]:
    """Store the scores of entries, by entry id, in three statements; the last of a user counts.

    Return what came of each entry. Scores as they stand are not written again, be they told anew
    at another time, and those that are not named stay.
    """
    known = _known(session, scores.keys())
    added: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    written = dict.fromkeys(scores, ScoreCounts())
    for key, row in _rows(scores).items():
        before = known.get(key)
        if before is None:
            added.append(row)
            came = ScoreCounts(added=1)
        elif _differs(before, row):
            changed.append(row)
            came = ScoreCounts(changed=1)
        else:
            came = ScoreCounts(unchanged=1)
        written[key[0]] += came
    db.insert_all(session, StoredScore, added)
    if changed:
        session.execute(update(StoredScore), changed)
    return written


def _differs(before: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return any(before[name] != value for name, value in row.items() if name != "timestamp")


def _known(session: Session, entry_ids: Collection[int]) -> dict[tuple[int, str], dict[str, Any]]:
    if not entry_ids:
        return {}
    rows = db.dicts(session, select(*_COLUMNS).where(StoredScore.entry_id.in_(entry_ids)))
    return {(row["entry_id"], row["user_id"]): row for row in rows}


def _rows(scores: Mapping[int, Sequence[Score]]) -> dict[tuple[int, str], dict[str, Any]]:
    return {
        (entry_id, score.user_id): {
            "entry_id": entry_id,
            **vars(score),
            "activity_progress": str(score.activity_progress),
            "grading_progress": str(score.grading_progress),
        }
        for entry_id, listed in scores.items()
        for score in listed
    }
