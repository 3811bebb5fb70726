"""Parameter types of eAssessment's commands."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from contract.grades import Points
from contract.tokens import MOODLE_TOKEN_ID
from foundation.cli.params import Text
from foundation.text import printable
from notifier.models import MAX_ID

_Command = TypeVar("_Command", bound=Callable[..., Any])
_POINTS: TypeAdapter[Decimal] = TypeAdapter(Points)


class Maximum(click.ParamType[Decimal]):
    """The maximum of a score."""

    name = "points"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """Return the points, or fail."""
        try:
            points: Decimal = _POINTS.validate_python(value)
        except ValidationError:
            points = Decimal(0)
        if points == 0:
            message = f"'{printable(str(value))}' is not a number above 0, for example 100 or 7.5"
            self.fail(message, param, ctx)
        return points


class MoodleTokenId(click.ParamType[str]):
    """The public id of a Moodle token; a token itself is refused, because it would be published."""

    name = "token_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id, or fail without repeating the value, which may be a token."""
        if not MOODLE_TOKEN_ID.fullmatch(value):
            self.fail("expected the id of a Moodle token: m and 16 hexadecimal digits", param, ctx)
        return str(value)


ROW_ID = click.IntRange(1, MAX_ID)
TITLE = Text(shortest=1)
MAXIMUM = Maximum()
MOODLE_TOKEN = MoodleTokenId()


def limit_option(
    noun: str, *, default: int = 100, maximum: int = 10_000
) -> Callable[[_Command], _Command]:
    """Return the option `--limit` of a command that lists or selects things."""
    return click.option(
        "--limit",
        type=click.IntRange(1, maximum),
        default=default,
        show_default=True,
        help=f"Maximum number of {noun}.",
    )
