"""The parser of a batch response: each item on its own, and only for its own course."""

import json
from typing import Any

import pytest

from contract.tokens import CourseToken
from receiver.sources.base import GradeQuery
from receiver.sources.eassessment import BatchItem, load_batch

TOKEN = CourseToken("k7Qx2mPa", "s" * 24)
QUERIES = [GradeQuery("http://x.example", course_id, TOKEN) for course_id in ("CS1", "CS2")]
SAME = BatchItem(304, None, b"")
UNCHANGED = b'{"course_id":"CS2","status":304}'
BOTH = b'{"course_id":"CS1","status":304},' + UNCHANGED
DEEP = b'{"course_id":"CS1","status":200,"grades":{"scores":[{"userId":"ada","userId":"bob"}]}}'


def unchanged(course_id: str, **more: Any) -> dict[str, Any]:
    """Return the item of a course with unchanged grades."""
    return {"course_id": course_id, "status": 304, **more}


def load(*answers: Any) -> list[BatchItem | None]:
    """Return the parsed items of a batch response."""
    return load_batch(json.dumps({"answers": answers}).encode(), QUERIES)


def test_item_of_another_course_is_ignored() -> None:
    assert load(unchanged("CS2"), unchanged("CS1")) == [None, None]
    assert load(unchanged("CS2"), unchanged("CS2")) == [None, SAME]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="array"),
        pytest.param(unchanged("CS1", status="304"), id="status string"),
        pytest.param(unchanged("CS1", status=True), id="status true"),
        pytest.param(unchanged("CS1", status=10**40), id="huge status"),
        pytest.param({"course_id": "CS1", "status": 200, "grades": 10**4000}, id="4,000 digits"),
        pytest.param(unchanged("CS1", status=413), id="batch full"),
    ],
)
def test_invalid_item_does_not_affect_others(broken: Any) -> None:
    items = load(broken, unchanged("CS2"))

    assert items[1] == SAME
    assert items[0] is None or items[0].status == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty body"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'{"answers": 7}', id="answers number"),
        pytest.param(b'{"answers": {"CS1": 1, "CS2": 2}}', id="answers object"),
        pytest.param(b'{"answers": []}', id="no answers"),
        pytest.param(b'{"answers": [{}, {}, {}]}', id="too many answers"),
        pytest.param(
            b'{"answers":[[' + b"{}," * 500_000 + b"{}]," + UNCHANGED + b"]}", id="too many objects"
        ),
        pytest.param(b'{"answers":[' + DEEP + b"," + UNCHANGED + b"]}", id="duplicate in a score"),
    ],
)
def test_invalid_batch_response_is_ignored(body: bytes) -> None:
    assert load_batch(body, QUERIES) == [None, None]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"answers":[' + BOTH + b"]}", id="compact"),
        pytest.param(b'{ "answers": [\n' + BOTH + b"\n] }", id="with white space"),
        pytest.param(b'{"answers":[' + BOTH + '],"who":"Zoë"}'.encode(), id="unknown field"),
        pytest.param(b'{"answers":[' + BOTH + b'],"by":NaN}', id="NaN in an unknown field"),
    ],
)
def test_valid_batch_response_is_parsed(body: bytes) -> None:
    assert load_batch(body, QUERIES) == [SAME, SAME]
