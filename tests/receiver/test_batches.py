"""A batch's answer taken apart: each item by itself, and none believed of another course."""

import json
from typing import Any

import pytest

from contract.tokens import CourseToken
from receiver.sources import eassessment_batch
from receiver.sources.base import GradeQuery
from receiver.sources.eassessment_batch import Item

TOKEN = CourseToken("k7Qx2mPa", "s" * 24)
QUESTIONS = [GradeQuery("http://x.example", course_id, TOKEN) for course_id in ("CS1", "CS2")]
SAME = Item(304, None, b"")
UNCHANGED = b'{"course_id":"CS2","status":304}'
BOTH = b'{"course_id":"CS1","status":304},' + UNCHANGED
TWICE = b'{"course_id":"CS1","status":410,"status":304}'
DEEP = b'{"course_id":"CS1","status":200,"grades":{"scores":[{"userId":"ada","userId":"bob"}]}}'


def unchanged(course_id: str, **more: Any) -> dict[str, Any]:
    """Return the item of a course whose grades did not change."""
    return {"course_id": course_id, "status": 304, **more}


def load(*answers: Any) -> list[Item | None]:
    """Return what a batch of these answers is taken apart into."""
    return eassessment_batch.load(json.dumps({"answers": answers}).encode(), QUESTIONS)


def test_an_item_of_another_course_answers_nothing() -> None:
    assert load(unchanged("CS2"), unchanged("CS1")) == [None, None]
    assert load(unchanged("CS2"), unchanged("CS2")) == [None, SAME]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="an array"),
        pytest.param({}, id="empty"),
        pytest.param(unchanged("CS1", status="304"), id="a status in quotes"),
        pytest.param(unchanged("CS1", status=True), id="true for a status"),
        pytest.param(unchanged("CS1", status=10**40), id="a status without end"),
        pytest.param(unchanged("CS1", status=-304), id="a status below nought"),
        pytest.param({"course_id": "CS1", "status": 200, "grades": 10**4000}, id="endless digits"),
        pytest.param(unchanged("CS1", status=413), id="left for another batch"),
    ],
)
def test_an_item_that_is_broken_spoils_no_other(broken: Any) -> None:
    told = load(broken, unchanged("CS2"))

    assert told[1] == SAME
    assert told[0] is None or told[0].status == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="HTML"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'{"answers": 7}', id="a number for answers"),
        pytest.param(b'{"answers": "ab"}', id="text for answers"),
        pytest.param(b'{"answers": {"CS1": 1, "CS2": 2}}', id="an object for answers"),
        pytest.param(b'{"answers": []}', id="no answer"),
        pytest.param(b'{"answers": [{}, {}, {}]}', id="too many answers"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b'{"answers": [[' + b"{}," * 500_000 + b"{}], {}]}", id="objects without end"),
        pytest.param(b'{"answers": [' + b"9" * 5000 + b", {}]}", id="a number without end"),
        pytest.param(b'{"answers":[],"answers":[' + BOTH + b"]}", id="answers twice"),
        pytest.param(b'{"answers":[' + TWICE + b"," + UNCHANGED + b"]}", id="a status twice"),
        pytest.param(b'{"answers":[' + DEEP + b"," + UNCHANGED + b"]}", id="a score's key twice"),
    ],
)
def test_what_is_no_batch_answers_nothing(body: bytes) -> None:
    assert eassessment_batch.load(body, QUESTIONS) == [None, None]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"answers":[' + BOTH + b"]}", id="as it comes"),
        pytest.param(b'{ "answers": [\n' + BOTH + b"\n] }", id="with blanks"),
        pytest.param(b'{"answers":[' + BOTH + '],"who":"Zoë"}'.encode(), id="with more"),
        pytest.param(b'{"answers":[' + BOTH + b'],"by":NaN}', id="with what is no JSON"),
    ],
)
def test_a_batch_is_read_however_it_is_spelt(body: bytes) -> None:
    assert eassessment_batch.load(body, QUESTIONS) == [SAME, SAME]
