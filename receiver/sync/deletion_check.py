"""The confirmation of deletions: a second request before a deletion is stored for good."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class DeletionCheck:
    """Confirms deletions with the clients of the sites, by the name of the source."""

    clients: Mapping[str, GradeSource]

    def confirm(self, results: Sequence[FetchResult]) -> list[FetchResult]:
        """Return the results, those not found replaced by what a second request says.

        Each site gets one request for all of its courses. No session may be open.
        """
        to_confirm: dict[str, list[GradeQuery]] = {}
        for result in results:
            if isinstance(result.outcome, NotFoundUnconfirmed) and result.query:
                to_confirm.setdefault(result.entry.source.name, []).append(result.query)
        gone = self._request(to_confirm) if to_confirm else {}
        return [
            _confirmed(result, gone.get((result.entry.source.name, result.entry.course_id)))
            for result in results
        ]

    def _request(
        self, to_confirm: Mapping[str, Sequence[GradeQuery]]
    ) -> dict[tuple[str, str], bool | None]:
        """Return by source and course whether it is deleted; nothing of a site that raises."""
        pool = ThreadPoolExecutor(_MAX_SITES_AT_ONCE, thread_name_prefix="deletion-check")
        try:
            futures = {
                name: pool.submit(self.clients[name].confirm_deleted, queries)
                for name, queries in to_confirm.items()
            }
            return {
                (name, query.course_id): is_gone
                for name, future in futures.items()
                if future.exception() is None
                for query, is_gone in zip(to_confirm[name], future.result(), strict=True)
            }
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _confirmed(result: FetchResult, gone: bool | None) -> FetchResult:
    outcome = result.outcome
    if not isinstance(outcome, NotFoundUnconfirmed) or gone or (gone is None and outcome.certain):
        return result
    if gone is None:
        detail = f"{outcome.detail}; whether the course was deleted is not certain"
        return replace(result, outcome=Transient(detail))
    return replace(
        result,
        outcome=Misconfigured(
            f"{outcome.detail}, although the course exists",
            Advice(
                "Check the token's rights and the course id with the eAssessment administrator."
            ),
        ),
    )
