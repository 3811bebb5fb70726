"""Forms: CSRF protection, and parsing into a model or error messages."""

import re
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from flask import Flask, current_app, request
from flask_wtf.csrf import CSRFError, CSRFProtect, generate_csrf
from markupsafe import Markup
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails

from contract.strict_json import is_storable
from contract.validation import validation_message
from foundation import csv_reader
from foundation.csv_reader import CsvError
from foundation.errors import Advice
from foundation.pages.errors import FormRefusedError
from foundation.pages.filters import sentence
from foundation.text import check_until, parse_since
from foundation.web.errors import RequestInvalidError, RequestMalformedError

MAX_BYTES = 256 * 1024
"""The maximum size of a form."""
MAX_FILE_BYTES = 4 * 1024 * 1024
"""The maximum size of a form with a file or a long list."""
CURSORS = ("after", "before")
"""The parameters that say which page of a list is shown."""
_COLUMNS = re.compile(r"[a-z_]+(,[a-z_]+)+")
_TOKEN = "csrf_token"  # noqa: S105 - a field's name, no secret
_Model = TypeVar("_Model", bound=BaseModel)

Faults = dict[str, str]
"""The error messages of a form by field; "" for the whole form."""


class Form(BaseModel):
    """The fields of a form; one that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _parse_time(text: object) -> datetime:
    return parse_since(str(text), now=datetime.now(UTC))


Time = Annotated[datetime, BeforeValidator(_parse_time)]
"""A time as users enter it: 2h, yesterday, or a date with or without the time of day, in UTC."""

Until = Annotated[Time, AfterValidator(check_until)]
"""The end of a period, which the field `since` before it begins."""

Search = Annotated[str, Field(max_length=255)]
"""A text to search for, as long as a course id can be."""


def one_of(values: Collection[str], noun: str) -> BeforeValidator:
    """Return the validator of a choice from a list; `noun` is what a value is, with its article."""

    def check(text: object) -> object:
        if text not in values:
            raise ValueError(f"{str(text)[:40]!r} is not {noun}; choose one from the list")
        return text

    return BeforeValidator(check)


def protect(app: Flask) -> None:
    """Protect an app's forms against CSRF (Flask-WTF)."""
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # the guards check, because APIs have no session
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # as long as the session
    CSRFProtect(app)
    app.jinja_env.globals["form_token"] = _form_token


def check(*, max_bytes: int = MAX_BYTES) -> None:
    """Raise FormRefusedError unless a request that changes something is a form of this session."""
    if request.method in {"GET", "HEAD"}:
        return
    request.max_content_length = request.max_form_memory_size = max_bytes
    try:
        current_app.extensions["csrf"].protect()
    except CSRFError as error:
        why = str(error.description).rstrip(".").lower().replace("csrf", "form's")
        raise FormRefusedError(f"the form is not from a page of this session: {why}") from None


def parse_form(model: type[_Model], lists: Collection[str] = ()) -> _Model | Faults:
    """Return the form as a model, or its errors; `lists` are the fields with several values."""
    fields: dict[str, Any] = {
        name: values if name in lists else values[0]
        for name, values in request.form.lists()
        if name != _TOKEN
    }
    if not all(is_storable(value) for _, values in request.form.lists() for value in values):
        raise RequestMalformedError("the form contains a NUL character")
    return _validated(model, fields)


def pasted_or_uploaded() -> str:
    """Return the uploaded CSV `file`, or else the `text` that was pasted.

    Raises CsvError if there are both, or the file is not text.
    """
    text, file = request.form.get("text", ""), request.files.get("file")
    if file is None or not file.filename:
        return text
    with closing(file):
        # Some of these forms begin with the line that names the columns.
        if text.strip() and not _COLUMNS.fullmatch(text.strip()):
            raise CsvError(
                "text was entered and a file was chosen",
                advice=Advice("Empty the field and choose the file again, or enter only text."),
            )
        return csv_reader.decode(file.read())


def from_query(model: type[_Model]) -> _Model | Faults:
    """Return the query string as a model, or its errors; empty fields are ignored."""
    fields = {name: value for name, value in request.args.items() if name in model.model_fields}
    return _validated(model, {name: value for name, value in fields.items() if value.strip()})


def entered(names: Collection[str]) -> dict[str, str]:
    """Return the filter of a list as it was entered, without empty fields and the cursor.

    A time such as 2h stays relative, so that links to the list keep it.
    """
    given = {name: request.args.get(name, "").strip() for name in names if name not in CURSORS}
    return {name: value for name, value in given.items() if value}


def require_valid(read: _Model | Faults, *, advice: Advice) -> _Model:
    """Return the model, or raise RequestInvalidError with all error messages."""
    if isinstance(read, dict):
        messages = (
            f"{name.replace('_', ' ')}: {fault}" if name else fault for name, fault in read.items()
        )
        raise RequestInvalidError(" ".join(messages), advice=advice)
    return read


def _validated(model: type[_Model], fields: dict[str, Any]) -> _Model | Faults:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        return {".".join(map(str, fault["loc"][:1])): _in_words(fault) for fault in faults}


def _in_words(fault: ErrorDetails) -> str:
    match fault:
        case {"type": "missing"} | {"type": "string_too_short", "ctx": {"min_length": 1}}:
            return "This field is required."
        case {"type": "string_too_long", "ctx": {"max_length": limit}}:
            return f"At most {limit} characters are allowed."
    return sentence(validation_message(fault))


def _form_token() -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(_TOKEN, generate_csrf())
