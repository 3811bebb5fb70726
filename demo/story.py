"""The story: who does what, what it printed, and that it came true."""

import csv
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from demo import far_side, polling
from demo.admin import Admin
from demo.far_side import Asked
from demo.moodle_chapter import MoodleChapter
from demo.teller import Teller, count

HERE = Path(__file__).parent

DELETED, REGENERATED = "PHIL120-2026", "STAT150-2026"
DELETED_WHILE_DOWN = "LAW201-2026"
DELETED_UNHEARD, REGENERATED_UNHEARD = "MUS115-2026", "BIO140-2026"


@dataclass
class Story(Teller):
    """The story on the machines, told from its beginning."""

    tokens: dict[str, str] = field(default_factory=dict)
    first_tokens: dict[str, str] = field(default_factory=dict)
    _seen: int = 0

    def tell(self) -> None:
        """Tell it all."""
        self._set_up()
        self._normal_sync()
        self._heard_changes()
        self._elms_down()
        self._unheard_changes()
        self._new_token()
        MoodleChapter(self.both, self.say, self.rows).tell()
        self._compare()

    def _set_up(self) -> None:
        self.title("Two platforms, each with its own database, and a worker between them")
        self.show_both(("notifier", "db", "upgrade"), ("receiver", "db", "upgrade"))
        self.both.start("eassessment", "notifier", "serve", at=self.both.eassessment_url)
        self._start_elms()
        self.both.wait_until_answers("eassessment", self.both.eassessment_url)
        self.both.wait_until_answers("elms", self.both.elms_url)
        door = f"{self.both.elms_url}/webhooks/eassessment"
        secret = self.show("notifier", "endpoints", "add", door).split()[-1]
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
        self.link(self.tokens)

    def _normal_sync(self) -> None:
        self.title("A normal sync")
        asked = self._sync()
        self.check(len(asked) == len(self.tokens), "every course was asked for once")
        self.check(not any(one.refused for one in asked), "none was refused")
        self.row("normal sync", "heard: nothing to hear", far_side.requests(asked), "all synced")

    def _heard_changes(self) -> None:
        self.title("An administrator deletes one course and regenerates the token of another")
        self._delete_and_regenerate(DELETED, REGENERATED)
        self.heard(self._admin, DELETED, REGENERATED)
        self.say("\n  The next sync skips both, and says why:")
        asked = self._sync()
        self._check_skipped(asked, DELETED, REGENERATED)
        self.row(
            "course deleted", "webhook received", _about(asked, DELETED), "skipped, no request"
        )
        self.row(
            "invalid token", "webhook received", _about(asked, REGENERATED), "skipped, no request"
        )

    def _elms_down(self) -> None:
        self.title("ELMS is stopped, and another course is deleted")
        self.both.stop("elms")
        self.show("notifier", "courses", "delete", DELETED_WHILE_DOWN)
        self.wait_for(self._has_failed, "an attempt failed")
        self._start_elms()  # it takes its time, and a retry comes soon
        self.show("notifier", "deliveries", "list", "--status", "pending")
        self.say("\n  ELMS comes back; operations need not wait for the next attempt:")
        self.both.wait_until_answers("elms", self.both.elms_url)
        self.show("notifier", "deliveries", "replay", "--course", DELETED_WHILE_DOWN)
        self.heard(self._admin, DELETED_WHILE_DOWN)
        asked = self._sync()
        self._check_skipped(asked, DELETED, REGENERATED, DELETED_WHILE_DOWN)

    def _has_failed(self) -> bool:
        last = self._admin.last_delivery(DELETED_WHILE_DOWN)
        return last is not None and last["attempts"] > 0

    def _unheard_changes(self) -> None:
        self.title("Webhooks are lost for good: the sync finds out, and heals itself")
        self.show("notifier", "endpoints", "disable", "1", "--reason", "nobody tells ELMS now")
        self._delete_and_regenerate(DELETED_UNHEARD, REGENERATED_UNHEARD)
        asked = self._sync(expect=1)
        statuses = {one.course_id: one.status for one in asked}
        self.check(statuses.get(DELETED_UNHEARD) == 410, "the deleted course was answered 410")
        self.check(statuses.get(REGENERATED_UNHEARD) == 401, "the old token was answered 401")
        healthy = [one for one in asked if not one.refused]
        self.row("course deleted", "webhook missed", _about(asked, DELETED_UNHEARD), "410 once")
        self.row("invalid token", "webhook missed", _about(asked, REGENERATED_UNHEARD), "401 once")
        self.row("normal sync", "webhooks missed", far_side.requests(healthy), "all others synced")
        self.say("\n  What eAssessment answered is remembered: the next sync asks for neither.")
        self._check_skipped(self._sync(), DELETED_UNHEARD, REGENERATED_UNHEARD)

    def _new_token(self) -> None:
        self.title("The new tokens are entered, and both courses sync again")
        both = (REGENERATED, REGENERATED_UNHEARD)
        self.show_both(
            *(("receiver", "registry", "set-token", course_id) for course_id in both),
            stdin=[self.tokens[course_id] for course_id in both],
        )
        asked = self._sync()
        again = {one.course_id for one in asked if not one.refused}
        self.check({REGENERATED, REGENERATED_UNHEARD} <= again, "both were asked and answered")

    def _delete_and_regenerate(self, deleted: str, regenerated: str) -> None:
        _, shown = self.show_both(
            ("notifier", "courses", "delete", deleted),
            ("notifier", "courses", "regenerate-token", regenerated),
        )
        self.tokens[regenerated] = shown.split()[-1]

    def _compare(self) -> None:
        self.title("Beside the polling of old: every course, at every run, whatever became of it")
        ours, seconds = self._timed_sync()
        old = polling.poll(self.both.eassessment_url, self.first_tokens)
        refused = sum(one.refused for one in ours)
        self.check(old.refused > 0, "the polling of old is refused where nobody told it why")
        self.check(refused == 0, "the sync that was told is refused nowhere")
        self.say(f"  {'':24}{'requests':>10}{'refused':>10}{'seconds':>10}")
        self.say(f"  {'polling of old':24}{old.requests:>10}{old.refused:>10}{old.seconds:>10.2f}")
        self.say(
            f"  {'grade sync, told':24}{far_side.requests(ours):>10}{refused:>10}{seconds:>10.2f}"
        )
        self.say("\n  The runs that were asked for:")
        for what, how, requests_made, came in self.rows:
            self.say(f"  {what:16}{how:26}{requests_made:>12}   {came}")

    @property
    def _admin(self) -> Admin:
        return Admin(self.both.eassessment_url, self.both.environment["NOTIFIER_ADMIN_KEY"])

    def _sync(self, *, expect: int = 0) -> list[Asked]:
        """Run the sync; return the requests that eAssessment saw of it."""
        self._new_requests()
        self.show("receiver", "sync-grades", expect=expect, most=40)
        asked = self._new_requests()
        refused = sum(one.refused for one in asked)
        self.say(
            f"  eAssessment saw {count(far_side.requests(asked), 'request')} about "
            f"{count(len(asked), 'course')}, of which it refused {refused}"
        )
        return asked

    def _timed_sync(self) -> tuple[list[Asked], float]:
        self._new_requests()
        report = json.loads(
            self.both.run("receiver", "sync-grades", "--source", "eassessment", "--json")
        )
        return self._new_requests(), report["seconds"]

    def _new_requests(self) -> list[Asked]:
        every = far_side.asked_for_grades(self.both.log_of("eassessment"))
        new, self._seen = every[self._seen :], len(every)
        return new

    def _check_skipped(self, asked: list[Asked], *course_ids: str) -> None:
        for course_id in course_ids:
            self.check(
                all(one.course_id != course_id for one in asked),
                f"no request for {course_id} reached eAssessment",
            )


def _about(asked: list[Asked], course_id: str) -> int:
    """Return in how many requests a course was asked about."""
    return far_side.requests([one for one in asked if one.course_id == course_id])
