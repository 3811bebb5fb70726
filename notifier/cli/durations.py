"""Times as people type them: 30m, 24h, 7d; and moments in ISO 8601."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"([0-9]{1,5})([smhd])", re.ASCII)


class Duration(click.ParamType[timedelta]):
    """A number and its unit."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration, or fail with what was expected."""
        if isinstance(value, timedelta):
            return value
        match = _FORM.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is no duration; write 90s, 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Moment(click.ParamType[datetime]):
    """A moment in ISO 8601, in UTC unless it names its offset."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment, aware, or fail with what was expected."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no moment; write 2026-11-22T09:00 (UTC)", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


DURATION = Duration()
MOMENT = Moment()
