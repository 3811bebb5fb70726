"""The story: who does what, what it printed, and that it came true."""

import csv
import json
import shlex
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import requests

from demo import far_side, polling
from demo.far_side import Asked
from demo.processes import Machines

HERE = Path(__file__).parent
_SEEN_WITHIN = 10.0
_MOST_LINES = 14

DELETED, REGENERATED = "PHIL120-2026", "STAT150-2026"
DELETED_WHILE_DOWN = "LAW201-2026"
DELETED_UNHEARD, REGENERATED_UNHEARD = "MUS115-2026", "BIO140-2026"


class StoryError(RuntimeError):
    """Something that the story tells did not happen."""


@dataclass
class Story:
    """Tells the story on two machines; raises StoryError where it does not come true."""

    both: Machines
    say: Callable[[str], None]
    tokens: dict[str, str] = field(default_factory=dict)
    first_tokens: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    _seen: int = 0

    def tell(self) -> None:
        """Tell it all."""
        self._set_up()
        self._normal_sync()
        self._heard_changes()
        self._elms_down()
        self._unheard_changes()
        self._new_token()
        self._compare()

    def _set_up(self) -> None:
        self._title("Two platforms, each with its own database, and a worker between them")
        for program in ("notifier", "receiver"):
            self._show(program, "db", "upgrade")
        self.both.start("eassessment", "notifier", "serve")
        self.both.start("elms", "receiver", "serve")
        self.both.wait_until_answers("eassessment", self.both.eassessment_url)
        self.both.wait_until_answers("elms", self.both.elms_url)
        door = f"{self.both.elms_url}/webhooks/eassessment"
        secret = self._show("notifier", "endpoints", "add", door).split()[-1]
        url = self.both.eassessment_url
        self._show("receiver", "sources", "add", "eassessment", "--url", url, stdin=secret)
        self._show("notifier", "endpoints", "ping", "1")
        self.both.start("worker", "notifier", "work")
        self._load_courses()

    def _load_courses(self) -> None:
        with (HERE / "courses.csv").open(encoding="utf-8", newline="") as file:
            courses = list(csv.DictReader(file))
        for course in courses:
            answer = self._admin("POST", "/courses", json=course)
            self.tokens[course["course_id"]] = answer["token"]
        self.first_tokens = dict(self.tokens)
        self.say(f"  {len(courses)} courses added by the admin API, such as {courses[5]['title']}")
        shutil.copy(HERE / "grades.csv", self.both.folder)
        self._show("notifier", "grades", "import", "grades.csv")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._enrol, self.tokens.items()))
        self.say(f"  {len(courses)} courses enrolled at ELMS with `receiver registry add`")

    def _enrol(self, course: tuple[str, str]) -> None:
        course_id, token = course
        self.both.run("receiver", "registry", "add", course_id, stdin=token)

    def _normal_sync(self) -> None:
        self._title("A normal sync")
        asked = self._sync()
        self._check(len(asked) == len(self.tokens), "every course was asked for once")
        self._check(not any(one.refused for one in asked), "none was refused")
        self._row("normal sync", "heard: nothing to hear", asked, "all synced")

    def _heard_changes(self) -> None:
        self._title("An administrator deletes one course and regenerates the token of another")
        self._show("notifier", "courses", "delete", DELETED)
        shown = self._show("notifier", "courses", "regenerate-token", REGENERATED)
        self.tokens[REGENERATED] = shown.split()[-1]
        self._await_heard(DELETED, REGENERATED)
        self.say("\n  The next sync skips both, and says why:")
        asked = self._sync()
        self._check_skipped(asked, DELETED, REGENERATED)
        self._row("course deleted", "webhook received", asked, "skipped, no request", DELETED)
        self._row("invalid token", "webhook received", asked, "skipped, no request", REGENERATED)

    def _elms_down(self) -> None:
        self._title("ELMS is stopped, and another course is deleted")
        self.both.stop("elms")
        self._show("notifier", "courses", "delete", DELETED_WHILE_DOWN)
        self._await(lambda: "refused" in self._deliveries(DELETED_WHILE_DOWN), "an attempt failed")
        self._show("notifier", "deliveries", "list", "--status", "pending")
        self.say("\n  ELMS comes back; operations need not wait for the next attempt:")
        self.both.start("elms", "receiver", "serve")
        self.both.wait_until_answers("elms", self.both.elms_url)
        self._show("notifier", "deliveries", "replay", "--course", DELETED_WHILE_DOWN)
        self._await_heard(DELETED_WHILE_DOWN)
        asked = self._sync()
        self._check_skipped(asked, DELETED, REGENERATED, DELETED_WHILE_DOWN)

    def _unheard_changes(self) -> None:
        self._title("Webhooks are lost for good: the sync finds out, and heals itself")
        self._show("notifier", "endpoints", "disable", "1", "--reason", "nobody tells ELMS now")
        self._show("notifier", "courses", "delete", DELETED_UNHEARD)
        shown = self._show("notifier", "courses", "regenerate-token", REGENERATED_UNHEARD)
        self.tokens[REGENERATED_UNHEARD] = shown.split()[-1]
        asked = self._sync(expect=1)
        statuses = {one.course_id: one.status for one in asked}
        self._check(statuses.get(DELETED_UNHEARD) == 410, "the deleted course was answered 410")
        self._check(statuses.get(REGENERATED_UNHEARD) == 401, "the old token was answered 401")
        healthy = [one for one in asked if not one.refused]
        self._row("course deleted", "webhook missed", asked, "410 once", DELETED_UNHEARD)
        self._row("invalid token", "webhook missed", asked, "401 once", REGENERATED_UNHEARD)
        self._row("normal sync", "webhooks missed", healthy, "all others synced")
        self.say("\n  What eAssessment answered is remembered: the next sync asks for neither.")
        self._check_skipped(self._sync(), DELETED_UNHEARD, REGENERATED_UNHEARD)

    def _new_token(self) -> None:
        self._title("The new tokens are entered, and both courses sync again")
        for course_id in (REGENERATED, REGENERATED_UNHEARD):
            token = self.tokens[course_id]
            self._show("receiver", "registry", "set-token", course_id, stdin=token)
        asked = self._sync()
        again = {one.course_id for one in asked if not one.refused}
        self._check({REGENERATED, REGENERATED_UNHEARD} <= again, "both were asked and answered")

    def _compare(self) -> None:
        self._title("Beside the polling of old: every course, at every run, whatever became of it")
        ours, seconds = self._timed_sync()
        old = polling.poll(self.both.eassessment_url, self.first_tokens)
        refused = sum(one.refused for one in ours)
        self._check(old.refused > 0, "the polling of old is refused where nobody told it why")
        self._check(refused == 0, "the sync that was told is refused nowhere")
        self.say(f"  {'':24}{'requests':>10}{'refused':>10}{'seconds':>10}")
        self.say(f"  {'polling of old':24}{old.requests:>10}{old.refused:>10}{old.seconds:>10.2f}")
        self.say(
            f"  {'grade sync, told':24}{far_side.requests(ours):>10}{refused:>10}{seconds:>10.2f}"
        )
        self.say("\n  The runs that were asked for:")
        for what, how, requests_made, came in self.rows:
            self.say(f"  {what:16}{how:26}{requests_made:>12}   {came}")

    def _sync(self, *, expect: int = 0) -> list[Asked]:
        """Run the sync; return the requests that eAssessment saw of it."""
        self._new_requests()
        self._show("receiver", "sync-grades", expect=expect, most=40)
        asked = self._new_requests()
        refused = sum(one.refused for one in asked)
        self.say(
            f"  eAssessment saw {_count(far_side.requests(asked), 'request')} about "
            f"{_count(len(asked), 'course')}, of which it refused {refused}"
        )
        return asked

    def _timed_sync(self) -> tuple[list[Asked], float]:
        self._new_requests()
        report = json.loads(self.both.run("receiver", "sync-grades", "--json"))
        return self._new_requests(), report["seconds"]

    def _new_requests(self) -> list[Asked]:
        every = far_side.asked_for_grades(self.both.log_of("eassessment"))
        new, self._seen = every[self._seen :], len(every)
        return new

    def _check_skipped(self, asked: list[Asked], *course_ids: str) -> None:
        for course_id in course_ids:
            self._check(
                all(one.course_id != course_id for one in asked),
                f"no request for {course_id} reached eAssessment",
            )

    def _await_heard(self, *course_ids: str) -> None:
        """Wait until ELMS has heard the last event of each course; tell how long it took."""
        for course_id in course_ids:
            last = json.loads(
                self.both.run("notifier", "deliveries", "list", "--course", course_id, "--json")
            )[0]
            webhook_id = last["webhook_id"]
            self._await(partial(self._has_heard, webhook_id), f"ELMS heard {webhook_id}")
            outcome, at = self._heard()[webhook_id]
            took = at - datetime.fromisoformat(last["occurred_at"])
            self.say(
                f"  ELMS heard {last['event_type']} of {course_id}: {outcome}, "
                f"{took.total_seconds() * 1000:.0f} ms after it happened"
            )

    def _has_heard(self, webhook_id: str) -> bool:
        return webhook_id in self._heard()

    def _heard(self) -> dict[str, tuple[str, datetime]]:
        return far_side.heard(self.both.log_of("elms"))

    def _deliveries(self, course_id: str) -> str:
        return self.both.run("notifier", "deliveries", "list", "--course", course_id, "--json")

    def _await(self, happened: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + _SEEN_WITHIN
        while not happened():
            if time.monotonic() > ends:
                raise StoryError(f"not within {_SEEN_WITHIN:g} s: {what}")
            time.sleep(0.02)

    def _check(self, true: bool, what: str) -> None:
        if not true:
            raise StoryError(f"it is not so that {what}")
        self.say(f"  ✓ {what}")

    def _row(
        self, what: str, how: str, asked: list[Asked], came: str, course_id: str | None = None
    ) -> None:
        about = [one for one in asked if course_id in (None, one.course_id)]
        self.rows.append((what, how, _count(far_side.requests(about), "request"), came))

    def _admin(self, method: str, path: str, **options: object) -> dict[str, str]:
        answer = requests.request(
            method,
            f"{self.both.eassessment_url}/api/v1/admin{path}",
            headers={"Authorization": f"Bearer {self.both.environment['NOTIFIER_ADMIN_KEY']}"},
            timeout=10,
            **options,  # type: ignore[arg-type]  # what requests takes
        )
        answer.raise_for_status()
        document: dict[str, str] = answer.json()
        return document

    def _title(self, text: str) -> None:
        self.say(f"\n── {text}")

    def _show(
        self, *command: str, stdin: str = "", expect: int = 0, most: int = _MOST_LINES
    ) -> str:
        printed = self.both.run(*command, stdin=stdin, expect=expect)
        self.say(f"\n  $ {shlex.join(command)}")
        shown = [line.rstrip() for line in printed.rstrip().splitlines()]
        for line in shown[:most]:
            self.say(f"    {line}")
        if len(shown) > most:
            self.say(f"    … and {len(shown) - most} more lines")
        return printed


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
