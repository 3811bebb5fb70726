"""The client of Moodle's web services: one function called, one verdict, never an exception."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from contract.tokens import MoodleToken
from foundation.logging import REDACTED
from receiver.moodle.responses import CHECK_URL, LATER, Verdict, classify
from receiver.sources.base import Misconfigured, Transient
from receiver.sources.http_client import (
    TOO_LARGE,
    Exchange,
    ExchangeError,
    TooLargeError,
    UnsendableError,
)

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

MOST_BYTES = 48 * 1024 * 1024
"""How large an answer may be: a grade report of 1,500 people and 50 items, 0.6 kB each.

Read, it takes four times as much memory.
"""

Parameters = Mapping[str, Any]
"""What a function is given: text and whole numbers, in mappings and sequences."""


class MoodleClient:
    """Calls the functions of one Moodle or several."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._exchange.requests

    def break_off(self) -> None:
        """End what is under way, and call nothing from now on."""
        self._exchange.break_off()

    def call(
        self, url: str, token: MoodleToken, function: str, parameters: Parameters | None = None
    ) -> Verdict:
        """Return what a function of the Moodle at a URL answers; the token goes in the body."""
        form = {
            "wstoken": token.reveal(),
            "wsfunction": function,
            "moodlewsrestformat": "json",
            "moodlewssettinglang": "en",
            **dict(_fields("", parameters or {})),
        }
        try:
            answer = self._exchange.send("POST", door(url), _FORM, urlencode(form).encode("ascii"))
        except TooLargeError as error:
            return Misconfigured(str(error), TOO_LARGE)
        except UnsendableError as error:
            return Misconfigured(str(error), CHECK_URL)
        except ExchangeError as error:
            return Transient(str(error), LATER, unreachable=error.unreachable)
        # A Moodle that is being debugged can say what it was sent.
        body = answer.body.replace(token.reveal().encode("ascii"), REDACTED.encode("ascii"))
        verdict = classify(
            answer.status,
            answer.headers.get("Content-Type"),
            body,
            location=answer.headers.get("Location"),
        )
        if isinstance(verdict, Transient):
            return replace(verdict, retry_after=answer.retry_after)
        return verdict


def door(url: str) -> str:
    """Return where a Moodle's functions are called."""
    return f"{url.rstrip('/')}/webservice/rest/server.php"


def _fields(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield form fields as PHP reads them: `options[ids][0]`."""
    if isinstance(value, Mapping):
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = [(str(place), part) for place, part in enumerate(value)]
    else:
        yield name, str(value)
        return
    for key, part in parts:
        yield from _fields(f"{name}[{key}]" if name else key, part)
