"""Refusals and their advice."""

import pytest

from foundation.errors import (
    Advice,
    ConfigurationError,
    DatabaseSetupError,
    DecryptionError,
    Refusal,
    fields_of,
)


class LostError(Refusal):
    advice = Advice("Look again.")


def test_refusal_has_a_message_facts_and_the_advice_of_its_class() -> None:
    refusal = LostError("the course is lost", course_id="CS101")

    assert str(refusal) == "the course is lost"
    assert refusal.advice == Advice("Look again.")
    assert refusal.facts == {"course_id": "CS101"}


def test_refusal_can_have_its_own_advice() -> None:
    refusal = LostError("the course is lost", advice=Advice("Ask."))

    assert (refusal.advice, refusal.facts) == (Advice("Ask."), {})


@pytest.mark.parametrize("kind", [Refusal, ConfigurationError, DatabaseSetupError, DecryptionError])
def test_every_refusal_has_advice(kind: type[Refusal]) -> None:
    assert kind("refused").advice.text.endswith(".")


def test_command_of_advice_is_quoted_for_a_shell() -> None:
    advice = Advice("Enter the token.", "registry set-token", ("COURSE_ID",))

    assert advice.fill("COURSE_ID", "CS 101").command == "registry set-token 'CS 101'"
    assert Advice("Wait.").command is None


@pytest.mark.parametrize(
    ("advice", "next_step", "action"),
    [(Advice("Look.", "courses list"), "Look.", "courses list"), (None, None, None)],
)
def test_fields_of_advice(advice: Advice | None, next_step: str | None, action: str | None) -> None:
    assert fields_of(advice) == {"next_step": next_step, "action": action}
