"""The old polling: one request for every course, one after another."""

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
    """Fetch every course in the registry, whatever is known of it, and return the cost.

    It is written as a first loop over courses usually is: a query for each entry, a
    `requests.get` for its grades, a merge (one query, one statement) for each grade, and a commit.
    It is not slower than that, and eAssessment responds as fast as to today's sync.
    """
    began, before = time.perf_counter(), database.statements
    with database.reading() as session:
        entry_ids = list(session.scalars(select(Entry.id).order_by(Entry.id)))
    refused = moved = 0
    for entry_id in entry_ids:
        with database.reading() as session:
            query = _query(session, entry_id, vault)
        response = _fetch(query)
        moved += len(response.content)
        if not response.ok:
            refused += 1
            continue
        with database.writing() as session:
            for score in GradesResponse.model_validate_json(response.content).scores:
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


def _query(session: Session, entry_id: int, vault: Vault) -> GradeQuery:
    return build_query(session.get_one(Entry, entry_id, options=[_WITH_SOURCE]), vault)


def _fetch(query: GradeQuery) -> requests.Response:
    headers = {"Authorization": f"Bearer {query.token.reveal()}"}
    return requests.get(url_of(query), headers=headers, timeout=_TIMEOUT)


def _stored(entry_id: int, score: Score) -> StoredScore:
    progress = {
        "activity_progress": score.activity_progress.value,
        "grading_progress": score.grading_progress.value,
    }
    return StoredScore(entry_id=entry_id, **{**vars(score), **progress})
