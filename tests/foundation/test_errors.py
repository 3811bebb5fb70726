"""The root of what a service refuses."""

import pytest

from foundation.errors import ConfigurationError, DecryptionError, Refusal, SchemaError


class LostError(Refusal):
    """The tests' own refusal."""

    next_step = "Look again."


def test_a_refusal_says_what_and_what_to_do() -> None:
    refusal = LostError("the course is lost", course_id="CS101")

    assert str(refusal) == "the course is lost"
    assert refusal.advice == "Look again."
    assert refusal.facts == {"course_id": "CS101"}


def test_a_refusal_can_bring_its_own_advice() -> None:
    refusal = LostError("the course is lost", next_step="Ask somebody.")

    assert refusal.advice == "Ask somebody."
    assert refusal.facts == {}


@pytest.mark.parametrize("kind", [Refusal, ConfigurationError, SchemaError, DecryptionError])
def test_every_refusal_has_advice(kind: type[Refusal]) -> None:
    assert kind("refused").advice.endswith(".")
