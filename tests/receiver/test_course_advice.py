"""The explanation of a status: its reason, its start and the next step."""

from functools import reduce

import pytest

from receiver.course_advice import CourseStatusDetails, explain
from receiver.course_state import (
    REGENERATED,
    CourseState,
    CourseStatus,
    Deleted,
    Fact,
    TokenAnnounced,
    TokenRejected,
    apply,
)
from tests.receiver.conftest import NINE


def state_after(*facts: Fact) -> CourseState:
    return reduce(apply, facts, CourseState("stored"))


def test_active_course_needs_no_explanation() -> None:
    assert explain(CourseState("stored"), "CS101", now=NINE) == CourseStatusDetails(
        CourseStatus.ACTIVE
    )


@pytest.mark.parametrize(
    ("fact", "reason", "next_step"),
    [
        pytest.param(
            Deleted(4, NINE),
            "the course was deleted in eAssessment",
            "No action needed",
            id="deleted",
        ),
        pytest.param(
            TokenAnnounced(5, "new", NINE),
            "the token was regenerated: current new, stored stored",
            "CS 101",
            id="regenerated",
        ),
        pytest.param(
            TokenRejected("stored", "token-unknown: no course has it", NINE),
            "eAssessment rejected the token stored: token-unknown: no course has it",
            "CS 101",
            id="rejected",
        ),
    ],
)
def test_explanation_has_reason_time_and_next_step(fact: Fact, reason: str, next_step: str) -> None:
    status = explain(state_after(fact), "CS 101", now=NINE)

    assert (status.reason, status.since) == (reason, NINE)
    assert next_step in str(status.advice)


def test_explanation_names_the_platform() -> None:
    deleted = explain(state_after(Deleted(0, NINE)), "7", platform="Moodle", now=NINE)
    rejected = explain(
        state_after(TokenRejected("stored", "invalidtoken", NINE)), "7", platform="Moodle", now=NINE
    )

    assert deleted.reason == "the course was deleted in Moodle"
    assert rejected.reason == "Moodle rejected the token stored: invalidtoken"
    assert "eAssessment" not in str(rejected.advice)


def test_explanation_adds_why_the_stored_token_was_rejected() -> None:
    announced = TokenAnnounced(5, "new", NINE)
    wrong = TokenRejected("stored", "token-wrong-course: it belongs to another course", NINE)
    replaced = TokenRejected("stored", REGENERATED, NINE)

    both = explain(state_after(announced, wrong), "CS101", now=NINE)
    one = explain(state_after(announced, replaced), "CS101", now=NINE)

    assert both.reason == f"{one.reason}, which was rejected: {wrong.reason}"
