"""What only eAssessment's commands take: row numbers, titles, times, points, token ids."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from contract.grades import Points
from contract.tokens import MOODLE_TOKEN_ID
from foundation.arguments import Words
from foundation.terminal import printable
from notifier.models import MAX_ID

_POINTS: TypeAdapter[Decimal] = TypeAdapter(Points)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([0-9]{1,5})([smhd])", re.ASCII)


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
            moment = datetime.fromisoformat(value)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return aware.astimezone(UTC)
        except (ValueError, OverflowError):
            message = f"'{printable(value)}' is no moment; write 2026-11-22T09:00 (UTC)"
            self.fail(message, param, ctx)


class Maximum(click.ParamType[Decimal]):
    """A number of points that a score can be out of."""

    name = "points"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """Return the points, or fail with what was expected."""
        try:
            points: Decimal = _POINTS.validate_python(value)
        except ValidationError:
            points = Decimal(0)
        if points == 0:
            message = f"'{printable(str(value))}' is no number of points above 0; write 100 or 7.5"
            self.fail(message, param, ctx)
        return points


class MoodleTokenId(click.ParamType[str]):
    """The public id of a Moodle's token; a token itself is refused, for it would be told."""

    name = "token_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id, or fail with what was expected; what was given is not repeated."""
        if not MOODLE_TOKEN_ID.fullmatch(value):
            self.fail("the id of a Moodle token is m and 16 hexadecimal digits", param, ctx)
        return str(value)


ROW_ID = click.IntRange(1, MAX_ID)
TITLE = Words(shortest=1)
DURATION = Duration()
MOMENT = Moment()
MAXIMUM = Maximum()
MOODLE_TOKEN = MoodleTokenId()
