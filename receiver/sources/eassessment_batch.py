"""The body of a batch request to eAssessment, and the parser of its response."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from contract import strict_json
from contract.grades import BatchRequest, BatchRequestItem
from contract.problems import ProblemType
from receiver.sources.base import GradeQuery

PATH = "/api/v1/grades/batch"


@dataclass(frozen=True)
class BatchItem:
    """The part of a batch response about one course, as a response of its own."""

    status: int
    etag: str | None
    body: bytes


def dump(queries: Sequence[GradeQuery]) -> bytes:
    """Return the body of a batch request."""
    request = BatchRequest(
        courses=tuple(
            BatchRequestItem(
                course_id=query.course_id,
                token=query.token.reveal(),
                if_none_match=query.etag,
                if_modified_since=None if query.etag else query.modified_since,
            )
            for query in queries
        )
    )
    return request.model_dump_json(exclude_none=True).encode()


def load(body: bytes, queries: Sequence[GradeQuery]) -> list[BatchItem | None]:
    """Return an item for each query; None if its part of the response is missing or invalid.

    Each item is checked on its own, so that an invalid one does not affect the others.
    """
    try:
        strict_json.check_size(body)
        document = from_json(body)
        _check_duplicate_keys(document, body)
        pairs = zip(queries, document["answers"], strict=True)
        return [_item(query, answer) for query, answer in pairs]
    except (ValueError, TypeError, KeyError):
        return [None for _ in queries]


def _check_duplicate_keys(document: Any, body: bytes) -> None:
    # `from_json` is fast, but takes the last of two keys. A document that is written as it was
    # read has no duplicate keys, and writing it is five times as fast as the strict parser.
    try:
        unchanged = to_json(document) == body
    except ValueError:
        unchanged = False
    if not unchanged:
        strict_json.check_duplicate_keys(body)


def _item(query: GradeQuery, answer: Any) -> BatchItem | None:
    if not isinstance(answer, dict) or answer.get("course_id") != query.course_id:
        return None
    status, etag = answer.get("status"), answer.get("etag")
    if not isinstance(status, int) or status not in range(200, 600):
        return None
    if status == ProblemType.BATCH_FULL.status:
        return None
    content = answer.get("grades" if status == 200 else "problem")
    body = b"" if content is None else json.dumps(content).encode()
    return BatchItem(status, etag if isinstance(etag, str) else None, body)
