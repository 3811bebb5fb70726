"""What people type after a command: course ids and words, refused where nobody could store them."""

from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.json_text import is_storable
from foundation.terminal import printable

_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)


class CourseIdType(click.ParamType[str]):
    """A course id, refused here if no event could carry it."""

    name = "course_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id, or fail with what is wrong with it."""
        if not is_storable(value):
            self.fail("the course id is not UTF-8", param, ctx)
        try:
            return _COURSE_ID.validate_python(value)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            self.fail(f"'{printable(value)}': {message}", param, ctx)


class Words(click.ParamType[str]):
    """Text as people write it, refused here if no database could store it."""

    name = "text"

    def __init__(self, shortest: int = 0, longest: int = 10_000) -> None:
        self._shortest, self._longest = shortest, longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is, or fail with what is wrong with it."""
        text = str(value)
        if not is_storable(text):
            self.fail("the text is not UTF-8", param, ctx)
        if not self._shortest <= len(text) <= self._longest:
            expected = f"{self._shortest} to {self._longest}"
            self.fail(f"{len(text)} characters, where {expected} are expected", param, ctx)
        return text


COURSE_ID = CourseIdType()
WORDS = Words()
