"""Problem documents (RFC 9457) and their stable types."""

import json
from http import HTTPStatus

import pytest

from contract import problems
from contract.problems import Problem, ProblemType

# The statuses that both organisations depend on.
AGREED = {
    "token-missing": 401,
    "token-malformed": 401,
    "token-unknown": 401,
    "token-regenerated": 401,
    "token-wrong-course": 403,
    "course-deleted": 410,
    "course-unknown": 404,
    "signature-refused": 401,
    "source-mismatch": 403,
    "webhook-id-reused": 409,
    "request-malformed": 400,
    "request-invalid": 422,
    "body-too-large": 413,
    "media-type-unsupported": 415,
    "database-unavailable": 503,
}


def make_problem(kind: ProblemType = ProblemType.COURSE_DELETED, **facts: object) -> Problem:
    return Problem(kind, "the course is deleted", "Remove it from the sync.", facts)


def test_document_has_the_members_of_rfc_9457() -> None:
    problem = make_problem(course_id="CS101-2026", course_version=4)

    assert problem.document() == {
        "type": "urn:problem-type:course-deleted",
        "title": "Course deleted",
        "status": 410,
        "detail": "the course is deleted",
        "next_step": "Remove it from the sync.",
        "course_id": "CS101-2026",
        "course_version": 4,
    }


@pytest.mark.parametrize("kind", list(ProblemType), ids=str)
def test_each_type_has_an_error_status_and_is_read_back(kind: ProblemType) -> None:
    document = json.loads(json.dumps(make_problem(kind).document()))

    assert document["status"] == HTTPStatus(kind.status) >= HTTPStatus.BAD_REQUEST
    assert problems.type_of(document) is kind


def test_agreed_statuses_are_stable() -> None:
    assert {kind: ProblemType(kind).status for kind in AGREED} == AGREED


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(None, id="null"),
        pytest.param(["urn:problem-type:course-deleted"], id="array"),
        pytest.param({}, id="no type"),
        pytest.param({"type": 410}, id="type number"),
        pytest.param({"type": ["urn:problem-type:course-deleted"]}, id="type array"),
        pytest.param({"type": "course-deleted"}, id="no prefix"),
        pytest.param({"type": "urn:problem-type:teapot"}, id="type of a newer release"),
    ],
)
def test_unknown_type_is_none(document: object) -> None:
    assert problems.type_of(document) is None
