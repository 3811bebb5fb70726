"""A Moodle on loopback: it responds to each function as prepared, and records the requests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl

from tests.loopback import Handler, served
from tests.receiver.moodle.recordings import RECORDED, Recorded

Form = dict[str, str]
Say = Callable[[Form], Recorded]


@dataclass(frozen=True)
class Called:
    """One request: its path and query, and its form."""

    path: str
    form: Form

    @property
    def function(self) -> str:
        """The function that was called."""
        return self.form["wsfunction"]


@dataclass
class FakeMoodle:
    """Responds by function; any other function does not exist, in the words of a real Moodle.

    `tokens` are the valid ones; if empty, every token is valid. A function in `slow` takes half a
    minute; `waited_for` are those that were answered after it.
    """

    url: str = ""
    called: list[Called] = field(default_factory=list)
    answers: dict[str, Say] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    waited_for: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)

    def says(self, function: str, *names: str) -> None:
        """Respond to a function with recordings, one after another; the last one stays."""
        self.sends(function, *(RECORDED[name] for name in names))

    def sends(self, function: str, *answers: Recorded) -> None:
        """Respond to a function with these, one after another; the last one stays."""
        left = list(answers)
        self.answers[function] = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def during(self, function: str, action: Callable[[], object]) -> None:
        """Let something happen at the first call of a function, before the response."""
        answer, actions = self.answers[function], [action]

        def respond(form: Form) -> Recorded:
            while actions:
                actions.pop()()
            return answer(form)

        self.answers[function] = respond

    def functions(self) -> list[str]:
        """Return which functions were called, in order."""
        return [one.function for one in self.called]

    def answer(self, form: Form) -> Recorded:
        """Return what a call is answered with."""
        if form.get("moodlewsrestformat") != "json":
            return RECORDED["token_invalid_xml"]
        if self.tokens and form["wstoken"] not in self.tokens:
            return RECORDED["token_invalid"]
        say = self.answers.get(form["wsfunction"])
        return say(form) if say else RECORDED["unknown_function"]


@contextmanager
def serving() -> Iterator[FakeMoodle]:
    """Serve a Moodle on loopback."""
    there = FakeMoodle()

    class Answering(Handler, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"])).decode("ascii")
            form = dict(parse_qsl(raw, keep_blank_values=True, strict_parsing=True))
            there.called.append(Called(self.path, form))
            answer = there.answer(form)
            if form["wsfunction"] in there.slow and not there.ended.wait(30):
                there.waited_for.append(form["wsfunction"])
            with suppress(OSError):
                self._send(answer, whole=form["wsfunction"] not in there.broken)

        def _send(self, answer: Recorded, *, whole: bool) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body if whole else answer.body[: len(answer.body) // 2])
            self.close_connection = not whole

    with served(Answering) as there.url:
        try:
            yield there
        finally:
            there.ended.set()
