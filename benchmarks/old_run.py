"""The run of old: every course by itself, one after another, whatever became of it."""

import time

import requests
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from benchmarks.cost import Cost
from contract.grades import GradesResponse, Score
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.models import Entry, StoredScore
from receiver.sources.base import GradeQuery
from receiver.sources.eassessment import url_of
from receiver.sync.fetcher import build_query

_WITH_SOURCE = joinedload(Entry.source, innerjoin=True)
_TIMEOUT = 15


def run(database: Database, vault: Vault) -> Cost:
    """Ask for every course in the registry, whatever is known of it, and return what that cost.

    As a loop over courses is written at first: each one's entry is read by a query of its own, all
    of its grades are asked for by a bare `requests.get`, as the demo's polling does, and each
    grade is merged into what is stored: a query whether it is there, and a statement that adds
    it; then a commit. It is not made slower than that, and eAssessment answers as well as it does
    today, in two queries at the most.
    """
    began, before = time.perf_counter(), database.statements
    with database.reading() as session:
        entry_ids = list(session.scalars(select(Entry.id).order_by(Entry.id)))
    refused = moved = 0
    for entry_id in entry_ids:
        with database.reading() as session:
            question = _question(session, entry_id, vault)
        answer = _ask(question)
        moved += len(answer.content)
        if not answer.ok:
            refused += 1
            continue
        with database.writing() as session:
            for score in GradesResponse.model_validate_json(answer.content).scores:
                session.merge(_stored(entry_id, score))
    return Cost(
        asked=len(entry_ids),
        requests=len(entry_ids),
        refused=refused,
        here=database.statements - before,
        there=0,
        moved=moved,
        seconds=time.perf_counter() - began,
    )


def _question(session: Session, entry_id: int, vault: Vault) -> GradeQuery:
    return build_query(session.get_one(Entry, entry_id, options=[_WITH_SOURCE]), vault)


def _ask(question: GradeQuery) -> requests.Response:
    headers = {"Authorization": f"Bearer {question.token.reveal()}"}
    return requests.get(url_of(question), headers=headers, timeout=_TIMEOUT)


def _stored(entry_id: int, score: Score) -> StoredScore:
    progress = {
        "activity_progress": score.activity_progress.value,
        "grading_progress": score.grading_progress.value,
    }
    return StoredScore(entry_id=entry_id, **{**vars(score), **progress})
