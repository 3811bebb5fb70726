"""Problem documents (RFC 9457) and their stable types."""

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import problems
from contract.problems import Problem, ProblemType


def make_problem(kind: ProblemType = ProblemType.COURSE_DELETED, **facts: object) -> Problem:
    """Return a problem of a type, with further members."""
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


# The statuses that both organisations depend on.
AGREED = {
    ProblemType.TOKEN_MISSING: 401,
    ProblemType.TOKEN_MALFORMED: 401,
    ProblemType.TOKEN_UNKNOWN: 401,
    ProblemType.TOKEN_REGENERATED: 401,
    ProblemType.TOKEN_WRONG_COURSE: 403,
    ProblemType.COURSE_DELETED: 410,
    ProblemType.COURSE_UNKNOWN: 404,
    ProblemType.SIGNATURE_REFUSED: 401,
    ProblemType.SOURCE_MISMATCH: 403,
    ProblemType.WEBHOOK_ID_REUSED: 409,
    ProblemType.REQUEST_MALFORMED: 400,
    ProblemType.REQUEST_INVALID: 422,
    ProblemType.BODY_TOO_LARGE: 413,
    ProblemType.MEDIA_TYPE_UNSUPPORTED: 415,
    ProblemType.DATABASE_UNAVAILABLE: 503,
}


def test_agreed_statuses_are_stable() -> None:
    assert {kind: kind.status for kind in AGREED} == AGREED


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(None, id="null"),
        pytest.param("urn:problem-type:course-deleted", id="string"),
        pytest.param(["urn:problem-type:course-deleted"], id="array"),
        pytest.param({}, id="no type"),
        pytest.param({"type": 410}, id="type number"),
        pytest.param({"type": ["urn:problem-type:course-deleted"]}, id="type array"),
        pytest.param({"type": "about:blank"}, id="about:blank"),
        pytest.param({"type": "course-deleted"}, id="no prefix"),
        pytest.param({"type": "urn:problem-type:"}, id="prefix alone"),
        pytest.param({"type": "urn:problem-type:teapot"}, id="type of a newer release"),
        pytest.param({"type": "urn:problem-type:Course-Deleted"}, id="upper case"),
    ],
)
def test_unknown_type_is_none(document: object) -> None:
    assert problems.type_of(document) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.just("type") | st.text(), inner, max_size=2)
        ),
        max_leaves=4,
    )
)
def test_type_of_never_raises(document: object) -> None:
    assert problems.type_of(document) in {None, *ProblemType}
