"""Messages about invalid values."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from contract.events import WireTime
from contract.validation import validation_message


class Sample(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=3)] = "x"
    port: Annotated[int, Field(ge=1, le=9)] = 1
    kind: Literal["api", "moodle"] = "api"
    sort: Annotated[str, Field(pattern="^-?(id|title){1}$")] = "id"
    when: WireTime | None = None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"name": ""}, "must not be empty", id="empty"),
        pytest.param({"name": "abcd"}, "must have at most 3 characters", id="too long"),
        pytest.param({"port": "abc"}, "must be a whole number", id="no number"),
        pytest.param({"port": 10}, "must be at most 9", id="too large"),
        pytest.param({"kind": "x"}, "must be 'api' or 'moodle'", id="none of them"),
        pytest.param({"sort": "x"}, "must match ^-?(id|title){1}$", id="no match"),
        pytest.param({"when": "noon"}, "expected a time such as 2026", id="our own words"),
    ],
)
def test_validation_message_is_in_our_words(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Sample.model_validate(given)

    [fault] = refused.value.errors(include_url=False)
    assert validation_message(fault).startswith(message)
