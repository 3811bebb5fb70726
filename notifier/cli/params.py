"""Parameter types of eAssessment's commands."""

from decimal import Decimal

from pydantic import TypeAdapter, ValidationError

from contract.grades import Points
from contract.tokens import MOODLE_TOKEN_ID
from foundation.cli.params import Parsed, text_of, whole_number
from foundation.text import printable
from notifier.models import MAX_ID, MAX_NAME

_POINTS: TypeAdapter[Decimal] = TypeAdapter(Points)


def _parse_maximum(value: str) -> Decimal:
    try:
        points: Decimal = _POINTS.validate_python(value)
    except ValidationError:
        points = Decimal(0)
    if points == 0:
        raise ValueError(f"'{printable(value)}' is not a number above 0, for example 100 or 7.5")
    return points


def _parse_token_id(value: str) -> str:
    # A token itself is refused, because the id is published. The value is not repeated.
    if not MOODLE_TOKEN_ID.fullmatch(value):
        raise ValueError("expected the id of a Moodle token: m and 16 hexadecimal digits")
    return value


SEARCHED = "courses whose id and title contain all words of TEXT, in any case"
"""What a search finds, in the help of its option."""

ROW_ID = whole_number(1, MAX_ID)
TITLE = text_of(minimum=1)
ENDPOINT_NAME = text_of(maximum=MAX_NAME)
MAXIMUM = Parsed("points", _parse_maximum)
MOODLE_TOKEN = Parsed("token_id", _parse_token_id)
