"""The story: the commands that people run, what they print, and checks of the result."""

import csv
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import polling, service_logs
from demo.admin import Admin
from demo.moodle_chapter import MoodleChapter
from demo.narrator import Narrator, count
from demo.service_logs import RequestedCourse

HERE = Path(__file__).parent

DELETED, REGENERATED = "PHIL120-2026", "STAT150-2026"
DELETED_WHILE_DOWN = "LAW201-2026"
DELETED_MISSED, REGENERATED_MISSED = "MUS115-2026", "BIO140-2026"
REPLACED = "CHEM105-2026"
# Seconds between two heartbeats: a day of silence, told in a few seconds.
_HEARTBEAT_SECONDS = "1"


@dataclass
class Story(Narrator):
    """The story, from an empty folder on."""

    tokens: dict[str, str] = field(default_factory=dict)
    first_tokens: dict[str, str] = field(default_factory=dict)
    _seen: int = 0

    def run(self) -> None:
        """Run the whole story."""
        self._set_up()
        self._normal_sync()
        self._received_changes()
        self._elms_down()
        self._missed_changes()
        self._new_token()
        self._replaced_token()
        self._restored_courses()
        self._silence()
        MoodleChapter(self.both, self.say, self.rows).run()
        self._compare()

    def _set_up(self) -> None:
        self.title("Two platforms, each with its own database, and a worker between them")
        self.show_both(("notifier", "db", "upgrade"), ("receiver", "db", "upgrade"))
        self.both.start("eassessment", "notifier", "serve", at=self.both.eassessment_url)
        self._start_elms()
        self.both.wait_until_answers("eassessment", self.both.eassessment_url)
        self.both.wait_until_answers("elms", self.both.elms_url)
        webhook_url = f"{self.both.elms_url}/webhooks/eassessment"
        secret = self.show("notifier", "endpoints", "add", webhook_url).split()[-1]
        url = self.both.eassessment_url
        self.show("receiver", "sources", "add", "eassessment", "--url", url, stdin=secret)
        self.show("notifier", "endpoints", "ping", "1")
        self.both.start("worker", "notifier", "work")
        self._load_courses()

    def _start_elms(self) -> None:
        self.both.start("elms", "receiver", "serve", at=self.both.elms_url)

    def _load_courses(self) -> None:
        with (HERE / "courses.csv").open(encoding="utf-8", newline="") as file:
            courses = list(csv.DictReader(file))
        for course in courses:
            self.tokens[course["course_id"]] = self._admin.add_course(course)
        self.first_tokens = dict(self.tokens)
        self.say(f"  {len(courses)} courses added by the admin API, such as {courses[5]['title']}")
        shutil.copy(HERE / "grades.csv", self.both.folder)
        self.show("notifier", "grades", "import", "grades.csv")
        self.add_courses(self.tokens)

    def _normal_sync(self) -> None:
        self.title("A normal sync")
        requested = self._sync()
        self.check(len(requested) == len(self.tokens), "every course was requested once")
        self.check(not any(one.refused for one in requested), "no request was refused")
        self.row("normal sync", "no webhooks", service_logs.requests(requested), "all synced")

    def _received_changes(self) -> None:
        self.title("An administrator deletes one course and regenerates the token of another")
        self._delete_and_regenerate(DELETED, REGENERATED)
        self.wait_for_receipt(self._admin, DELETED, REGENERATED)
        self.say("\n  The next sync skips both; for one of them someone has to enter a token:")
        requested = self._sync(expect=1)
        self._check_skipped(requested, DELETED, REGENERATED)
        self.row(
            "course deleted", "webhook received", _about(requested, DELETED), "skipped, no request"
        )
        self.row(
            "invalid token",
            "webhook received",
            _about(requested, REGENERATED),
            "skipped, no request",
        )

    def _elms_down(self) -> None:
        self.title("ELMS is stopped, and another course is deleted")
        self.both.stop("elms")
        self.show("notifier", "courses", "delete", DELETED_WHILE_DOWN)
        self.wait_for(self._has_failed, "an attempt failed")
        self._start_elms()  # before the list, because a retry is due soon
        self.show("notifier", "deliveries", "list", "--status", "pending")
        self.say("\n  ELMS is back; a replay is faster than waiting for the next attempt:")
        self.both.wait_until_answers("elms", self.both.elms_url)
        self.show("notifier", "deliveries", "replay", "--course", DELETED_WHILE_DOWN)
        self.wait_for_receipt(self._admin, DELETED_WHILE_DOWN)
        requested = self._sync(expect=1)
        self._check_skipped(requested, DELETED, REGENERATED, DELETED_WHILE_DOWN)

    def _has_failed(self) -> bool:
        last = self._admin.last_delivery(DELETED_WHILE_DOWN)
        return last is not None and last["attempt_count"] > 0

    def _missed_changes(self) -> None:
        self.title("Webhooks are lost: the sync detects the changes itself")
        self.show("notifier", "endpoints", "disable", "1", "--reason", "to lose webhooks")
        self._delete_and_regenerate(DELETED_MISSED, REGENERATED_MISSED)
        requested = self._sync(expect=1)
        statuses = {one.course_id: one.status for one in requested}
        self.check(
            statuses.get(DELETED_MISSED) == 410, "the request for the deleted course got 410"
        )
        self.check(
            statuses.get(REGENERATED_MISSED) == 401, "the request with the old token got 401"
        )
        healthy = [one for one in requested if not one.refused]
        self.row("course deleted", "webhook missed", _about(requested, DELETED_MISSED), "410 once")
        self.row(
            "invalid token", "webhook missed", _about(requested, REGENERATED_MISSED), "401 once"
        )
        self.row(
            "normal sync", "webhooks missed", service_logs.requests(healthy), "all others synced"
        )
        self.say("\n  The registry stores these responses: the next sync skips both.")
        self._check_skipped(self._sync(expect=1), DELETED_MISSED, REGENERATED_MISSED)

    def _new_token(self) -> None:
        self.title("The new tokens are entered, and both courses sync again")
        both = (REGENERATED, REGENERATED_MISSED)
        self.show_both(
            *(("receiver", "registry", "set-token", course_id) for course_id in both),
            stdin=[self.tokens[course_id] for course_id in both],
        )
        requested = self._sync()
        again = {one.course_id for one in requested if not one.refused}
        self.check({REGENERATED, REGENERATED_MISSED} <= again, "both were requested and answered")

    def _replaced_token(self) -> None:
        self.title("A token is replaced with an overlap: ELMS takes the new one over itself")
        self.show("notifier", "endpoints", "enable", "1")
        self.show("notifier", "endpoints", "set-token-claims", "1", "on")
        shown = self.show("notifier", "courses", "regenerate-token", REPLACED, "--overlap", "1h")
        self.tokens[REPLACED] = shown.split()[-1]
        self.wait_for_receipt(self._admin, REPLACED)
        self.say("\n  The old token is good for an hour; the next sync takes the new one over:")
        requested = self._sync()
        self._check_synced(requested, REPLACED)
        self.row("token replaced", "webhook received", _about(requested, REPLACED), "synced")
        self.show("receiver", "registry", "show", REPLACED)

    def _restored_courses(self) -> None:
        self.title("Two deletions are undone: the sync goes on, and no one enters a token")
        self.show("notifier", "courses", "restore", DELETED, DELETED_MISSED)
        self.wait_for_receipt(self._admin, DELETED, DELETED_MISSED)
        requested = self._sync()
        self._check_synced(requested, DELETED)
        self._check_synced(requested, DELETED_MISSED)
        self.row("course restored", "webhook received", _about(requested, DELETED), "synced")

    def _silence(self) -> None:
        self.title("The worker stops: ELMS notices that it receives nothing")
        self.both.stop("worker")
        often = {"NOTIFIER_HEARTBEAT_INTERVAL": _HEARTBEAT_SECONDS}
        self.both.start("worker", "notifier", "work", where=often)
        self.wait_for(lambda: "heartbeat" in self._webhooks()["detail"], "ELMS got a heartbeat")
        self.both.stop("worker")
        self.wait_for(lambda: not self._webhooks()["ok"], "ELMS notices the silence")
        self.show("receiver", "doctor", expect=1)
        self.both.start("worker", "notifier", "work", where=often)
        self.say("\n  The worker is started again:")
        self.wait_for(lambda: self._webhooks()["ok"], "ELMS receives heartbeats again")
        self.show("receiver", "doctor")

    def _webhooks(self) -> dict[str, Any]:
        """Return what `receiver doctor` finds of the webhooks."""
        found = json.loads(self.both.run("receiver", "doctor", "--json", expect=None))
        return next(one for one in found["findings"] if one["check"] == "webhooks")

    def _check_synced(self, requested: list[RequestedCourse], course_id: str) -> None:
        self.check(
            any(one.course_id == course_id and not one.refused for one in requested),
            f"{course_id} was requested and answered",
        )

    def _delete_and_regenerate(self, deleted: str, regenerated: str) -> None:
        _, shown = self.show_both(
            ("notifier", "courses", "delete", deleted),
            ("notifier", "courses", "regenerate-token", regenerated),
        )
        self.tokens[regenerated] = shown.split()[-1]

    def _compare(self) -> None:
        self.title("Compared with the old polling: every course at every run")
        ours, seconds = self._timed_sync()
        old = polling.poll(self.both.eassessment_url, self.first_tokens)
        refused = sum(one.refused for one in ours)
        self.check(old.refused > 0, "the old polling is refused")
        self.check(refused == 0, "the grade sync is not refused")
        self.say(f"  {'':24}{'requests':>10}{'refused':>10}{'seconds':>10}")
        self.say(f"  {'old polling':24}{old.requests:>10}{old.refused:>10}{old.seconds:>10.2f}")
        self.say(
            f"  {'grade sync':24}{service_logs.requests(ours):>10}{refused:>10}{seconds:>10.2f}"
        )
        self.say("\n  Requests by case:")
        for what, how, requests_made, result in self.rows:
            self.say(f"  {what:16}{how:26}{requests_made:>12}   {result}")

    @property
    def _admin(self) -> Admin:
        return Admin(self.both.eassessment_url, self.both.environment["NOTIFIER_ADMIN_KEY"])

    def _sync(self, *, expect: int = 0) -> list[RequestedCourse]:
        """Run the sync; return the requests that eAssessment received."""
        self._new_requests()
        self.show("receiver", "sync-grades", expect=expect, max_lines=40)
        requested = self._new_requests()
        refused = sum(one.refused for one in requested)
        self.say(
            f"  eAssessment received {count(service_logs.requests(requested), 'request')} about "
            f"{count(len(requested), 'course')} and refused {refused}"
        )
        return requested

    def _timed_sync(self) -> tuple[list[RequestedCourse], float]:
        self._new_requests()
        report = json.loads(
            self.both.run("receiver", "sync-grades", "--source", "eassessment", "--json")
        )
        return self._new_requests(), report["seconds"]

    def _new_requests(self) -> list[RequestedCourse]:
        every = service_logs.requested_courses(self.both.log_of("eassessment"))
        new, self._seen = every[self._seen :], len(every)
        return new

    def _check_skipped(self, requested: list[RequestedCourse], *course_ids: str) -> None:
        for course_id in course_ids:
            self.check(
                all(one.course_id != course_id for one in requested),
                f"no request for {course_id} reached eAssessment",
            )


def _about(requested: list[RequestedCourse], course_id: str) -> int:
    """Return the number of requests that name a course."""
    return service_logs.requests([one for one in requested if one.course_id == course_id])
