"""Parameter types: course ids, text, durations, timestamps, text files."""

import re
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import click
from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.strict_json import is_storable
from foundation.text import parse_timestamp, printable, validation_message

_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([0-9]{1,5})([smhd])", re.ASCII)

# Younger records detect duplicates of deliveries that are still being retried or replayed.
MIN_AGE = timedelta(days=30)


class CourseIdType(click.ParamType[str]):
    """A course id; one that an event cannot carry is refused."""

    name = "course_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id, or fail."""
        if not is_storable(value):
            self.fail("the course id is not UTF-8", param, ctx)
        try:
            return _COURSE_ID.validate_python(value)
        except ValidationError as error:
            message = validation_message(error.errors(include_url=False)[0])
            self.fail(f"'{printable(value)}': {message}", param, ctx)


class Text(click.ParamType[str]):
    """Text of limited length that a database can store."""

    name = "text"

    def __init__(self, shortest: int = 0, longest: int = 10_000) -> None:
        self._shortest, self._longest = shortest, longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or fail."""
        text = str(value)
        if not is_storable(text):
            self.fail("the text is not UTF-8", param, ctx)
        if not self._shortest <= len(text) <= self._longest:
            expected = f"{self._shortest} to {self._longest}"
            self.fail(f"{len(text)} characters; expected {expected}", param, ctx)
        return text


class Duration(click.ParamType[timedelta]):
    """A duration: a number and its unit."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration, or fail."""
        if isinstance(value, timedelta):
            return value
        match = _DURATION.fullmatch(value)
        if match is None:
            self.fail(
                f"'{printable(value)}' is not a duration such as 90s, 30m, 24h or 7d",
                param,
                ctx,
            )
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Age(Duration):
    """A minimum age of records to delete: a duration of at least MIN_AGE."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the age, or fail."""
        age = super().convert(value, param, ctx)
        if age < MIN_AGE:
            self.fail(
                f"'{printable(str(value))}' is too short; write {MIN_AGE.days}d or more, because "
                "duplicates of deleted records cannot be detected",
                param,
                ctx,
            )
        return age


class Timestamp(click.ParamType[datetime]):
    """A timestamp in ISO 8601, in UTC unless it has an offset."""

    name = "timestamp"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the timestamp in UTC, or fail."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_timestamp(value)
        except (ValueError, OverflowError):
            message = f"'{printable(value)}' is not a timestamp such as 2026-11-22T09:00 (UTC)"
            self.fail(message, param, ctx)


COURSE_ID = CourseIdType()
TEXT = Text()
DURATION = Duration()
AGE = Age()
TIMESTAMP = Timestamp()


def read_text(file: BinaryIO) -> str:
    """Return a file's text, with the line ends it has and without a byte order mark."""
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError("the file is not UTF-8; save it as UTF-8 first") from None
