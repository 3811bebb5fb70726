"""The chapter about an eAssessment site that is a Moodle, without and with webhooks."""

import json
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from demo import moodle_site, service_logs
from demo.admin import Admin
from demo.narrator import Narrator, count
from demo.service_logs import Called

COURSES = {
    "11": "Ancient Greek",
    "12": "Mécanique quantique",
    "13": "Baltische Geschichte",
    "14": "البلاغة العربية",
    "15": "Estadística",
    "16": "Choir & Orchestra",
}
DELETED_SILENTLY, RESET_SILENTLY, DELETED, RESET = "11", "12", "13", "14"
STUDENTS = 20


@dataclass
class MoodleChapter(Narrator):
    """Courses in a Moodle, which responds to a failure with 200 too."""

    tokens: dict[str, str] = field(
        default_factory=lambda: {number: secrets.token_hex(16) for number in COURSES}
    )
    site_token: str = field(default_factory=lambda: secrets.token_hex(16))
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    _seen: int = 0

    def run(self) -> None:
        """Run the chapter."""
        with ThreadPoolExecutor(1) as meanwhile:
            notifier = meanwhile.submit(self._start_notifier)
            self._join()
            self._both_in_one_run()
            self._silent_changes()
            notifier.result()
        self._announced_changes()

    def _join(self) -> None:
        self.title("A second eAssessment site is a Moodle, and one run syncs both")
        self._start_moodle()
        url = self.both.moodle_url
        self.show("receiver", "sources", "add", "moodle", "--url", url, "--kind", "moodle")
        self.show("receiver", "sources", "set-site-token", "moodle", stdin=self.site_token)
        self.add_courses(self.tokens, "moodle")

    def _start_moodle(self) -> None:
        courses = {
            number: {"shortname": name, "grades": {f"s{n}": 40.5 + n for n in range(STUDENTS)}}
            for number, name in COURSES.items()
        }
        tokens = {token: number for number, token in self.tokens.items()}
        begun = {"courses": courses, "tokens": {**tokens, self.site_token: ""}}
        file = self.both.folder / "moodle.json"
        file.write_text(json.dumps(begun), encoding="utf-8")
        url = self.both.moodle_url
        port = url.rpartition(":")[2]
        python = Path(sys.executable).name
        self.both.start("moodle", python, str(moodle_site.__file__), port, str(file), at=url)
        self.both.wait_until_answers("moodle", url)

    def _both_in_one_run(self) -> None:
        log = self.both.log_of("eassessment")
        before = len(service_logs.requested_courses(log))
        called = self._sync()
        requested = service_logs.requested_courses(log)[before:]
        self.check(
            service_logs.requests(requested) == 1, "the same run sent one request to eAssessment"
        )
        self.check(
            _requested_courses(called) == sorted(COURSES),
            "every course of the Moodle was requested once",
        )
        self.check(not any(one.errorcode for one in called), "no request was refused")

    def _silent_changes(self) -> None:
        self.title("The Moodle deletes a course and resets the token of another, without webhooks")
        self._delete(DELETED_SILENTLY)
        self._reset(RESET_SILENTLY)
        called = self._sync("--source", "moodle", expect=1)
        self._check_answer(called, DELETED_SILENTLY, "invalidrecord")
        self._check_answer(called, RESET_SILENTLY, "invalidtoken")
        confirmed = [one for one in called if one.function == moodle_site.COURSES]
        self.check(
            [one.courses for one in confirmed] == [(DELETED_SILENTLY,)],
            f"the deletion of {DELETED_SILENTLY} was confirmed with the site-wide token",
        )
        deleted, refused = (_about(called, one) for one in (DELETED_SILENTLY, RESET_SILENTLY))
        self.row("course deleted", "Moodle, no webhook", deleted, "invalidrecord once, confirmed")
        self.row("invalid token", "Moodle, no webhook", refused, "invalidtoken once")

    def _announced_changes(self) -> None:
        self.title("The Moodle gets a notifier of its own, and tool_trigger posts deletions to it")
        self._set_up_webhooks()
        self._delete(DELETED)
        self.wait_for_receipt(self._admin, DELETED)
        self.say("\n  Moodle has no event for a reset token, so it is announced by a command:")
        self._notifier("courses", "announce-token", RESET, stdin=self._reset(RESET))
        self.wait_for_receipt(self._admin, RESET)
        self.say("\n  The next sync skips all four courses:")
        called = self._sync("--source", "moodle", expect=1)
        self._check_skipped(called, DELETED, RESET, DELETED_SILENTLY, RESET_SILENTLY)
        deleted, refused = (_about(called, one) for one in (DELETED, RESET))
        self.row("course deleted", "Moodle, webhook", deleted, "skipped, no request")
        self.row("invalid token", "Moodle, webhook", refused, "skipped, no request")

    def _start_notifier(self) -> None:
        self.both.run("notifier", "db", "upgrade", where=self._where)
        url = self.both.moodle_notifier_url
        self.both.start("moodle-notifier", "notifier", "serve", at=url, where=self._where)
        self.both.start("moodle-notifier-worker", "notifier", "work", where=self._where)
        self.both.wait_until_answers("moodle-notifier", url)

    def _set_up_webhooks(self) -> None:
        webhook_url = f"{self.both.elms_url}/webhooks/moodle"
        secret = self._notifier("endpoints", "add", webhook_url).split()[-1]
        self.show("receiver", "sources", "add-secret", "moodle", stdin=secret)
        url = f"{self.both.moodle_notifier_url}/api/v1/ingest/moodle"
        self._page(moodle_site.WORKFLOW, url=url, secret=self.secret)
        self.say("\n  The Moodle's administrator adds a workflow that posts deletions.")

    def _notifier(self, *command: str, stdin: str = "") -> str:
        return self.show("notifier", *command, stdin=stdin, where=self._where)

    @property
    def _where(self) -> dict[str, str]:
        """The settings of the Moodle's notifier."""
        return {
            "NOTIFIER_DATABASE_URL": "sqlite:///moodle-notifier.db",
            "NOTIFIER_PORT": self.both.moodle_notifier_url.rpartition(":")[2],
            "NOTIFIER_SOURCE": "moodle",
            "NOTIFIER_INGEST_SECRET": self.secret,
        }

    @property
    def _admin(self) -> Admin:
        return Admin(self.both.moodle_notifier_url, self.both.environment["NOTIFIER_ADMIN_KEY"])

    def _sync(self, *options: str, expect: int = 0) -> list[Called]:
        """Run the sync; return the calls that the Moodle received."""
        self._new_calls()
        self.show("receiver", "sync-grades", *options, expect=expect, max_lines=40)
        called = self._new_calls()
        refused = sum(one.errorcode is not None for one in called)
        self.say(
            f"  The Moodle received {count(len(called), 'request')}, responded 200 to each, "
            f"and refused {refused}"
        )
        return called

    def _new_calls(self) -> list[Called]:
        every = service_logs.called(self.both.log_of("moodle"))
        new, self._seen = every[self._seen :], len(every)
        return new

    def _check_answer(self, called: list[Called], number: str, errorcode: str) -> None:
        answers = [
            one.errorcode
            for one in called
            if one.function == moodle_site.GRADES and number in one.courses
        ]
        self.check(
            answers == [errorcode], f"the request for {number} got 200 with {errorcode}, once"
        )

    def _check_skipped(self, called: list[Called], *numbers: str) -> None:
        for number in numbers:
            self.check(
                all(number not in one.courses for one in called),
                f"no request for {number} reached the Moodle",
            )

    def _delete(self, number: str) -> None:
        form = {
            "wstoken": self.site_token,
            "wsfunction": moodle_site.DELETE,
            "moodlewsrestformat": "json",
            "courseids[0]": number,
        }
        self._page(moodle_site.WEB_SERVICES, **form)
        self.say(f"  The Moodle deletes its course {number}, {COURSES[number]}")

    def _reset(self, number: str) -> str:
        token = str(self._page(moodle_site.RESET_TOKEN, course=number))
        self.say(f"  The Moodle resets the token of its course {number}, {COURSES[number]}")
        return token

    def _page(self, path: str, **form: str) -> Any:
        answer = requests.post(f"{self.both.moodle_url}{path}", data=form, timeout=10)
        answer.raise_for_status()
        return answer.json()


def _about(called: list[Called], number: str) -> int:
    """Return the number of calls that name a course."""
    return sum(number in one.courses for one in called)


def _requested_courses(called: list[Called]) -> list[str]:
    return sorted(number for one in called for number in one.courses)
