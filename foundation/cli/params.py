"""Parameter types: course ids, text, durations, timestamps, text files."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, BinaryIO, Generic, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.strict_json import is_storable
from contract.validation import validation_message
from foundation import csv_reader, text
from foundation.csv_reader import CsvError
from foundation.text import printable

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Value = TypeVar("_Value")
_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)
_MAX_TEXT = 10_000
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,20}", re.ASCII)

# Younger records detect duplicates of deliveries that are still being retried or replayed.
MIN_AGE = timedelta(days=30)


class Parsed(click.ParamType[_Value], Generic[_Value]):
    """Values that a function parses; its ValueError is the usage error."""

    def __init__(self, name: str, parse: Callable[[str], _Value]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> _Value:
        """Return the parsed value, or fail."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_course_id(value: str) -> str:
    """Return a course id; raise ValueError for one that an event cannot carry."""
    if not is_storable(value):
        raise ValueError("the course id is not UTF-8")
    try:
        return _COURSE_ID.validate_python(value)
    except ValidationError as error:
        message = validation_message(error.errors(include_url=False)[0])
        raise ValueError(f"'{printable(value)}': {message}") from None


def text_of(minimum: int = 0, maximum: int = _MAX_TEXT) -> Parsed[str]:
    """Return the type of text that a database can store, of `minimum` to `maximum` characters."""

    def parse(value: str) -> str:
        if not is_storable(value):
            raise ValueError("the text is not UTF-8")
        if not minimum <= len(value) <= maximum:
            raise ValueError(f"{len(value)} characters; expected {minimum} to {maximum}")
        return value

    return Parsed("text", parse)


def whole_number(minimum: int, maximum: int) -> Parsed[int]:
    """Return the type of whole numbers from `minimum` to `maximum`."""

    def parse(value: str) -> int:
        text = str(value)  # a default is a number already
        if not (_WHOLE_NUMBER.fullmatch(text) and minimum <= int(text) <= maximum):
            shown = printable(text)
            raise ValueError(f"'{shown}' is not a whole number from {minimum:,} to {maximum:,}")
        return int(text)

    return Parsed("number", parse)


def _parse_age(value: str) -> timedelta:
    age = text.parse_duration(value)
    if age < MIN_AGE:
        raise ValueError(
            f"'{printable(value)}' is too short; write {MIN_AGE.days}d or more, because duplicates "
            "of deleted records cannot be detected"
        )
    return age


def _parse_timestamp(value: str) -> datetime:
    try:
        return text.parse_timestamp(value)
    except (ValueError, OverflowError):
        raise ValueError(
            f"'{printable(value)}' is not a timestamp such as 2026-11-22T09:00 (UTC)"
        ) from None


def _parse_since(value: str) -> datetime:
    return text.parse_since(value, now=datetime.now(UTC))


COURSE_ID = Parsed("course_id", parse_course_id)
TEXT = text_of()
SEARCH = text_of(maximum=255)  # as long as a course id can be
DURATION = Parsed("duration", text.parse_duration)
AGE = Parsed("age", _parse_age)  # of records to delete: at least MIN_AGE
TIMESTAMP = Parsed("timestamp", _parse_timestamp)
SINCE = Parsed("time", _parse_since)  # relative ones too


def filter_options(
    make: Callable[..., object], *options: Callable[[_Command], _Command]
) -> Callable[[_Command], _Command]:
    """Add the options of a filter to a command, which gets the filter as `criteria`.

    `make` returns the filter for the values of the options, by their names.
    """

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def filtered(**given: Any) -> None:
            criteria = make(**{name: given.pop(name) for name in names})
            command(criteria=criteria, **given)

        params: list[click.Parameter] = filtered.__dict__.setdefault("__click_params__", [])
        others = len(params)
        for option in reversed(options):
            option(filtered)
        names = [str(param.name) for param in params[others:]]
        return filtered  # type: ignore[return-value]  # as above

    return decorate


def _check_period(ctx: click.Context, param: click.Parameter, value: datetime) -> datetime:
    # The options are processed in the order in which they are given.
    times = {**ctx.params, str(param.name): value}
    try:
        text.check_period(times.get("since"), times.get("until"))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def time_options(noun: str) -> Callable[[_Command], _Command]:
    """Return the options `--since` and `--until` of a command that lists things."""
    since = click.option(
        "--since",
        type=SINCE,
        callback=_check_period,
        help=f"Only {noun} since this time: 2h, yesterday, or 2026-11-22T09:00 (UTC).",
    )
    until = click.option(
        "--until", type=SINCE, callback=_check_period, help=f"Only {noun} before this time."
    )
    return lambda command: since(until(command))


def prune_options(command: _Command) -> _Command:
    """Add the options of a command that deletes old records."""
    older_than = click.option(
        "--older-than", type=AGE, required=True, help="Minimum age: 30d or more, for example 400d."
    )
    audit_older_than = click.option(
        "--audit-older-than",
        type=AGE,
        help="Also delete entries of the audit table of this age. Without it all are kept.",
    )
    return older_than(audit_older_than(command))


def limit_option(
    noun: str, *, default: int = 100, maximum: int = 10_000
) -> Callable[[_Command], _Command]:
    """Return the option `--limit` of a command that lists or selects things."""
    return click.option(
        "--limit",
        type=whole_number(1, maximum),
        default=default,
        show_default=True,
        help=f"Maximum number of {noun}, up to {maximum:,}.",
    )


def read_text(file: BinaryIO) -> str:
    """Return a file's text, with the line ends it has and without a byte order mark."""
    try:
        return csv_reader.decode(file.read())
    except CsvError as error:
        raise click.UsageError(str(error)) from None
