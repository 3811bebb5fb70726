"""Whether a course that seems gone is: its site is asked before anything permanent is learnt."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from receiver.sources.base import GradeQuery, GradeSource, SeemsGone
from receiver.sync import results
from receiver.sync.results import Heard

_AT_ONCE = 8


def confirmed(
    heard: Sequence[Heard],
    sources: Mapping[str, GradeSource],
    wait: Callable[[Collection[Future[Any]]], object],
) -> list[Heard]:
    """Return what was heard, of each course that seemed gone what its site says when asked again.

    Each site is asked at once about all of its own, and `wait` called again and again until all
    have answered; no session may be open.
    """
    doubtful: dict[str, list[GradeQuery]] = {}
    for one in heard:
        if isinstance(one.outcome, SeemsGone) and one.question:
            doubtful.setdefault(one.entry.source.name, []).append(one.question)
    gone = _confirm(doubtful, sources, wait) if doubtful else {}
    return [
        results.confirmed(one, gone.get((one.entry.source.name, one.entry.course_id)))
        for one in heard
    ]


def _confirm(
    doubtful: Mapping[str, Sequence[GradeQuery]],
    sources: Mapping[str, GradeSource],
    wait: Callable[[Collection[Future[Any]]], object],
) -> dict[tuple[str, str], bool | None]:
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="confirming")
    asked = {name: pool.submit(sources[name].confirm, doubtful[name]) for name in doubtful}
    try:
        while under_way := [future for future in asked.values() if not future.done()]:
            wait(under_way)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return {
        (name, question.course_id): is_gone
        for name, future in asked.items()
        if future.exception() is None
        for question, is_gone in zip(doubtful[name], future.result(), strict=True)
    }
