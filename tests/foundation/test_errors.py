"""The root of what a service refuses."""

import pytest

from foundation.errors import (
    Advice,
    ConfigurationError,
    DecryptionError,
    Refusal,
    SchemaError,
    fields_of,
)


class LostError(Refusal):
    """The tests' own refusal."""

    advice = Advice("Look again.")


def test_a_refusal_says_what_and_what_to_do() -> None:
    refusal = LostError("the course is lost", course_id="CS101")

    assert str(refusal) == "the course is lost"
    assert refusal.advice == Advice("Look again.")
    assert refusal.facts == {"course_id": "CS101"}


def test_a_refusal_can_bring_its_own_advice() -> None:
    refusal = LostError("the course is lost", advice=Advice("Ask somebody."))

    assert refusal.advice == Advice("Ask somebody.")
    assert refusal.facts == {}


@pytest.mark.parametrize("kind", [Refusal, ConfigurationError, SchemaError, DecryptionError])
def test_every_refusal_has_advice(kind: type[Refusal]) -> None:
    assert kind("refused").advice.text.endswith(".")


def test_command_of_advice_is_quoted_for_a_shell() -> None:
    advice = Advice("Enter the token.", "registry set-token", ("COURSE_ID",))

    assert advice.fill("COURSE_ID", "CS 101").command == "registry set-token 'CS 101'"
    assert Advice("Wait.").command is None


def test_fields_of_advice_are_a_sentence_and_a_command() -> None:
    assert fields_of(Advice("Look.", "courses list")) == {
        "next_step": "Look.",
        "action": "courses list",
    }
    assert fields_of(None) == {"next_step": None, "action": None}
