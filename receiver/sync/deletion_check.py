"""The confirmation of deletions: a second request before a deletion is stored for good."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from foundation.errors import Advice
from receiver.sources.base import (
    GradeQuery,
    GradeSource,
    Misconfigured,
    NotFoundUnconfirmed,
    Transient,
)
from receiver.sync.results import FetchResult

_MAX_SITES_AT_ONCE = 8


def confirm(
    clients: Mapping[str, GradeSource], results: Sequence[FetchResult]
) -> list[FetchResult]:
    """Return the results, those not found replaced by what a second request says.

    Each site gets one request for all of its courses; its client is found by the name of the
    source. No session may be open.
    """
    not_found: dict[str, list[GradeQuery]] = {}
    for result in results:
        if isinstance(result.outcome, NotFoundUnconfirmed) and result.query:
            not_found.setdefault(result.entry.source.name, []).append(result.query)
    # Whether a course is deleted; a site that raises says nothing.
    gone: dict[tuple[str, str], bool | None] = {}
    pool = ThreadPoolExecutor(_MAX_SITES_AT_ONCE, thread_name_prefix="deletion-check")
    try:
        futures = {
            name: pool.submit(clients[name].confirm_deleted, queries)
            for name, queries in not_found.items()
        }
        for name, future in futures.items():
            if future.exception() is None:
                ids = [(name, query.course_id) for query in not_found[name]]
                gone.update(zip(ids, future.result(), strict=True))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [
        _confirmed(result, gone.get((result.entry.source.name, result.entry.course_id)))
        for result in results
    ]


def _confirmed(result: FetchResult, gone: bool | None) -> FetchResult:
    outcome = result.outcome
    if not isinstance(outcome, NotFoundUnconfirmed) or gone or (gone is None and outcome.certain):
        return result
    if gone is None:
        detail = f"{outcome.detail}; whether the course was deleted is not certain"
        return replace(result, outcome=Transient(detail))
    exists = Misconfigured(
        f"{outcome.detail}, although the course exists",
        Advice("Check the token's rights and the course id with the eAssessment administrator."),
    )
    return replace(result, outcome=exists)
