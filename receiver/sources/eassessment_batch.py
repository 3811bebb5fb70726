"""A batch of questions as it goes to eAssessment, and its answer taken apart, course by course."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from contract import strict_json
from contract.grades import BatchRequest, BatchRequestItem
from contract.problems import STATUS, ProblemType
from receiver.sources.base import GradeQuery

PATH = "/api/v1/grades/batch"


@dataclass(frozen=True)
class Item:
    """What a batch answers for one course, as if it had been asked by itself."""

    status: int
    etag: str | None
    body: bytes


def dump(questions: Sequence[GradeQuery]) -> bytes:
    """Return the body that asks all the questions."""
    order = BatchRequest(
        courses=tuple(
            BatchRequestItem(
                course_id=question.course_id,
                token=question.token.reveal(),
                if_none_match=question.etag,
                if_modified_since=None if question.etag else question.modified_since,
            )
            for question in questions
        )
    )
    return order.model_dump_json(exclude_none=True).encode()


def load(body: bytes, questions: Sequence[GradeQuery]) -> list[Item | None]:
    """Return an item for each question; None for what was not answered, or not as a batch is.

    Each item is read by itself, so that one that is broken does not spoil the others.
    """
    try:
        strict_json.check_size(body)
        document = from_json(body)
        _check_keys(document, body)
        paired = zip(questions, document["answers"], strict=True)
        return [_item(question, answer) for question, answer in paired]
    except (ValueError, TypeError, KeyError):
        return [None for _ in questions]


def _check_keys(document: Any, body: bytes) -> None:
    """Raise a ValueError if a key stands twice: the fast reader takes the last one, and is silent.

    What comes out again as it came in holds none, and that is told five times as fast.
    """
    try:
        as_it_came = to_json(document) == body
    except ValueError:
        as_it_came = False
    if not as_it_came:
        strict_json.check_duplicate_keys(body)


def _item(question: GradeQuery, answer: Any) -> Item | None:
    if not isinstance(answer, dict) or answer.get("course_id") != question.course_id:
        return None
    status, etag = answer.get("status"), answer.get("etag")
    if not isinstance(status, int) or status not in range(200, 600):
        return None
    if status == STATUS[ProblemType.BATCH_FULL]:
        return None
    told = answer.get("grades" if status == 200 else "problem")
    named = etag if isinstance(etag, str) else None
    return Item(status, named, b"" if told is None else json.dumps(told).encode())
