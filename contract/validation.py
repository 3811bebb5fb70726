"""What is wrong with a value, in the words of this program."""

from collections.abc import Mapping
from typing import Any

# What pydantic's messages are replaced with, by the type of the error; the names are its context.
_VALIDATION_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "finite_number": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
}


def validation_message(fault: Mapping[str, Any]) -> str:
    """Return the message of one of pydantic's errors, in the words of this program if possible."""
    words = _VALIDATION_MESSAGES.get(fault["type"])
    context = fault.get("ctx", {})
    if context.get("min_length") == 1 and fault["type"] in {"string_too_short", "too_short"}:
        words = "must not be empty"
    if words is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    return words.format_map(context)
