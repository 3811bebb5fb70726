"""What people type after a command: course ids, words, durations and moments."""

import re
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import click
from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.strict_json import is_storable
from foundation import text as moments
from foundation.text import printable

_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([0-9]{1,5})([smhd])", re.ASCII)

SHORTEST_AGE = timedelta(days=30)
"""What is younger is not forgotten: a delivery may be under way for days, and be replayed later."""


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


class Duration(click.ParamType[timedelta]):
    """A number and its unit."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration, or fail with what was expected."""
        if isinstance(value, timedelta):
            return value
        match = _DURATION.fullmatch(value)
        if match is None:
            self.fail(f"'{printable(value)}' is no duration; write 90s, 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Age(Duration):
    """How old what is forgotten is at the least: a duration, but none that is short."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the age, or fail with what was expected."""
        age = super().convert(value, param, ctx)
        if age < SHORTEST_AGE:
            self.fail(
                f"'{printable(str(value))}' is too short; write {SHORTEST_AGE.days}d or more, for "
                "what is forgotten can no longer be told from what is new",
                param,
                ctx,
            )
        return age


class Moment(click.ParamType[datetime]):
    """A moment in ISO 8601, in UTC unless it names its offset."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment in UTC, or fail with what was expected."""
        if isinstance(value, datetime):
            return value
        try:
            return moments.read(value)
        except (ValueError, OverflowError):
            message = f"'{printable(value)}' is no moment; write 2026-11-22T09:00 (UTC)"
            self.fail(message, param, ctx)


COURSE_ID = CourseIdType()
WORDS = Words()
DURATION = Duration()
AGE = Age()
MOMENT = Moment()


def read_text(file: BinaryIO) -> str:
    """Return a file's text, with the line ends it has and without a byte order mark."""
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError("the file is not UTF-8; save it as UTF-8 first") from None
