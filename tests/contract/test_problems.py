"""Problem documents (RFC 9457) and their stable types."""

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import problems
from contract.problems import STATUS, Problem, ProblemType

every_type = pytest.mark.parametrize("kind", list(ProblemType), ids=str)


def make_problem(kind: ProblemType = ProblemType.COURSE_DELETED, **facts: object) -> Problem:
    """Return a problem of a type, with facts beside it."""
    return Problem(kind, "the course is deleted", "Take it out of the sync.", facts)


def test_a_problem_is_a_document_of_rfc_9457() -> None:
    problem = make_problem(course_id="CS101-2026", course_version=4)

    assert problem.document() == {
        "type": "urn:problem-type:course-deleted",
        "title": "Course deleted",
        "status": 410,
        "detail": "the course is deleted",
        "next_step": "Take it out of the sync.",
        "course_id": "CS101-2026",
        "course_version": 4,
    }


@every_type
def test_each_type_has_the_status_of_a_refusal(kind: ProblemType) -> None:
    status = HTTPStatus(STATUS[kind])

    assert status >= HTTPStatus.BAD_REQUEST
    assert make_problem(kind).status == make_problem(kind).document()["status"] == status


@every_type
def test_a_document_names_the_type_it_was_made_of(kind: ProblemType) -> None:
    document = json.loads(json.dumps(make_problem(kind).document()))

    assert problems.type_of(document) is kind


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ProblemType.TOKEN_MISSING, 401),
        (ProblemType.TOKEN_MALFORMED, 401),
        (ProblemType.TOKEN_UNKNOWN, 401),
        (ProblemType.TOKEN_REGENERATED, 401),
        (ProblemType.TOKEN_WRONG_COURSE, 403),
        (ProblemType.COURSE_DELETED, 410),
        (ProblemType.COURSE_UNKNOWN, 404),
        (ProblemType.SIGNATURE_REFUSED, 401),
        (ProblemType.SOURCE_MISMATCH, 403),
        (ProblemType.WEBHOOK_ID_REUSED, 409),
        (ProblemType.REQUEST_MALFORMED, 400),
        (ProblemType.REQUEST_INVALID, 422),
        (ProblemType.BODY_TOO_LARGE, 413),
        (ProblemType.MEDIA_TYPE_UNSUPPORTED, 415),
        (ProblemType.DATABASE_UNAVAILABLE, 503),
    ],
)
def test_the_statuses_are_those_that_both_sides_agreed_on(kind: ProblemType, status: int) -> None:
    assert STATUS[kind] == status


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(None, id="nothing"),
        pytest.param("urn:problem-type:course-deleted", id="a string"),
        pytest.param(["urn:problem-type:course-deleted"], id="an array"),
        pytest.param(410, id="a number"),
        pytest.param({}, id="no type"),
        pytest.param({"type": None}, id="a type of null"),
        pytest.param({"type": 410}, id="a number for a type"),
        pytest.param({"type": ["urn:problem-type:course-deleted"]}, id="an array for a type"),
        pytest.param({"type": "about:blank"}, id="the type of no type"),
        pytest.param({"type": "course-deleted"}, id="no prefix"),
        pytest.param({"type": "urn:problem-type:"}, id="a prefix alone"),
        pytest.param({"type": "urn:problem-type:teapot"}, id="a type of a newer release"),
        pytest.param({"type": "urn:problem-type:Course-Deleted"}, id="in other case"),
        pytest.param({"type": "urn:problem-type:urn:problem-type:not-found"}, id="twice"),
    ],
)
def test_what_names_no_type_of_ours_is_none(document: object) -> None:
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
def test_no_document_makes_reading_its_type_fail(document: object) -> None:
    assert problems.type_of(document) in {None, *ProblemType}
