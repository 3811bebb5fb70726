"""What only eAssessment's commands take: row numbers, titles, points, token ids."""

from decimal import Decimal
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from contract.grades import Points
from contract.tokens import MOODLE_TOKEN_ID
from foundation.cli.params import Words
from foundation.text import printable
from notifier.models import MAX_ID

_POINTS: TypeAdapter[Decimal] = TypeAdapter(Points)


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
MAXIMUM = Maximum()
MOODLE_TOKEN = MoodleTokenId()
