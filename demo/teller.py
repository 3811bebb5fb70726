"""How the story is told: titles, commands with what they print, and checks that it comes true."""

import csv
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from demo import far_side
from demo.admin import Admin
from demo.processes import Machines

_SEEN_WITHIN = 10.0
_MOST_LINES = 14


class StoryError(RuntimeError):
    """Something that the story tells did not happen."""


@dataclass
class Teller:
    """Tells what is done on the machines, with a table of runs to end with.

    Raises StoryError where it does not come true.
    """

    both: Machines
    say: Callable[[str], None]
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def title(self, text: str) -> None:
        """Begin a part of the story."""
        self.say(f"\n── {text}")

    def show(
        self,
        *command: str,
        stdin: str = "",
        expect: int = 0,
        most: int = _MOST_LINES,
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command, tell it with what it printed, and return that."""
        printed = self.both.run(*command, stdin=stdin, expect=expect, where=where)
        self._tell_command(command, printed, most)
        return printed

    def show_both(self, *commands: Sequence[str], stdin: Sequence[str] = ("", "")) -> list[str]:
        """Run two commands at once, to save the reader's time; tell one after the other."""
        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(self.both.run, *command, stdin=entered)
                for command, entered in zip(commands, stdin, strict=True)
            ]
        every = [run.result() for run in runs]
        for command, printed in zip(commands, every, strict=True):
            self._tell_command(command, printed, _MOST_LINES)
        return every

    def _tell_command(self, command: Sequence[str], printed: str, most: int) -> None:
        self.say(f"\n  $ {shlex.join(command)}")
        shown = [line.rstrip() for line in printed.rstrip().splitlines()]
        for line in shown[:most]:
            self.say(f"    {line}")
        if len(shown) > most:
            self.say(f"    … and {len(shown) - most} more lines")

    def check(self, true: bool, what: str) -> None:
        """Tell what is true, or break the story off."""
        if not true:
            raise StoryError(f"it is not so that {what}")
        self.say(f"  ✓ {what}")

    def wait_for(self, happened: Callable[[], bool], what: str) -> None:
        """Return once something has happened; break the story off if it does not in time."""
        ends = time.monotonic() + _SEEN_WITHIN
        while not happened():
            if time.monotonic() > ends:
                raise StoryError(f"not within {_SEEN_WITHIN:g} s: {what}")
            time.sleep(0.02)

    def link(self, tokens: Mapping[str, str], source: str = "eassessment") -> None:
        """Link courses by their tokens: one file, one command."""
        with (self.both.folder / "links.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("source", "course_id", "token"))
            rows.writerows((source, *link) for link in tokens.items())
        self.show("receiver", "registry", "import", "links.csv")

    def heard(self, admin: Admin, *course_ids: str) -> None:
        """Wait until ELMS has heard the last event of each course; tell how long it took."""
        for course_id in course_ids:
            self.wait_for(partial(self._hears, admin, course_id), f"ELMS heard of {course_id}")

    def _hears(self, admin: Admin, course_id: str) -> bool:
        """Tell what ELMS heard last of a course, or return False if it has not yet."""
        last = admin.last_delivery(course_id)
        heard = far_side.heard(self.both.log_of("elms"))
        if last is None or last["webhook_id"] not in heard:
            return False
        outcome, at = heard[last["webhook_id"]]
        took = at - datetime.fromisoformat(last["occurred_at"])
        self.say(
            f"  ELMS heard {last['event_type']} of {course_id}: {outcome}, "
            f"{took.total_seconds() * 1000:.0f} ms after it happened"
        )
        return True

    def row(self, what: str, how: str, requests: int, came: str) -> None:
        """Keep a row of the table that the story ends with."""
        self.rows.append((what, how, count(requests, "request"), came))


def count(number: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"
