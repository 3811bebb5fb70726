"""Prints the story: titles, commands with their output, and checks of the result."""

import csv
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from demo import service_logs
from demo.admin import Admin
from demo.processes import Machines

_SEEN_WITHIN = 10.0
_MAX_LINES = 14


class StoryError(RuntimeError):
    """A check of the story failed."""


@dataclass
class Narrator:
    """Runs and prints the steps of the story, and collects the rows of its last table.

    Raises StoryError if a check fails.
    """

    both: Machines
    say: Callable[[str], None]
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def title(self, text: str) -> None:
        """Print the title of a part."""
        self.say(f"\n── {text}")

    def show(
        self,
        *command: str,
        stdin: str = "",
        expect: int = 0,
        max_lines: int = _MAX_LINES,
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command, print it with its output, and return the output."""
        printed = self.both.run(*command, stdin=stdin, expect=expect, where=where)
        self._print_command(command, printed, max_lines)
        return printed

    def show_both(self, *commands: Sequence[str], stdin: Sequence[str] = ("", "")) -> list[str]:
        """Run two commands at once, to save time; print one after the other."""
        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(self.both.run, *command, stdin=entered)
                for command, entered in zip(commands, stdin, strict=True)
            ]
        every = [run.result() for run in runs]
        for command, printed in zip(commands, every, strict=True):
            self._print_command(command, printed, _MAX_LINES)
        return every

    def _print_command(self, command: Sequence[str], printed: str, max_lines: int) -> None:
        self.say(f"\n  $ {shlex.join(command)}")
        shown = [line.rstrip() for line in printed.rstrip().splitlines()]
        for line in shown[:max_lines]:
            self.say(f"    {line}")
        if len(shown) > max_lines:
            self.say(f"    … and {len(shown) - max_lines} more lines")

    def check(self, true: bool, what: str) -> None:
        """Print what is true, or raise StoryError."""
        if not true:
            raise StoryError(f"this is not true: {what}")
        self.say(f"  ✓ {what}")

    def wait_for(self, happened: Callable[[], bool], what: str) -> None:
        """Return once something has happened; raise StoryError if it does not in time."""
        ends = time.monotonic() + _SEEN_WITHIN
        while not happened():
            if time.monotonic() > ends:
                raise StoryError(f"not within {_SEEN_WITHIN:g} s: {what}")
            time.sleep(0.02)

    def add_courses(self, tokens: Mapping[str, str], source: str = "eassessment") -> None:
        """Add courses to the registry with their tokens: one file, one command."""
        with (self.both.folder / "courses.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("source", "course_id", "token"))
            rows.writerows((source, *link) for link in tokens.items())
        self.show("receiver", "registry", "import", "courses.csv")

    def wait_for_receipt(self, admin: Admin, *course_ids: str) -> None:
        """Wait until ELMS has received the last event of each course; print how long it took."""
        for course_id in course_ids:
            self.wait_for(partial(self._received, admin, course_id), f"ELMS received {course_id}")

    def _received(self, admin: Admin, course_id: str) -> bool:
        """Print the last event of a course if ELMS has received it, else return False."""
        last = admin.last_delivery(course_id)
        received = service_logs.received_webhooks(self.both.log_of("elms"))
        if last is None or last["webhook_id"] not in received:
            return False
        outcome, at = received[last["webhook_id"]]
        took = at - datetime.fromisoformat(last["occurred_at"])
        self.say(
            f"  ELMS received {last['event_type']} of {course_id}: {outcome}, "
            f"{took.total_seconds() * 1000:.0f} ms after it happened"
        )
        return True

    def row(self, what: str, how: str, requests: int, result: str) -> None:
        """Add a row to the last table."""
        self.rows.append((what, how, count(requests, "request"), result))


def count(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"
