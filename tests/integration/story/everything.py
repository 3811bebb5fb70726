"""ELMS with sources of every kind and courses with every result, and what is expected of each."""

import secrets
import socket
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from typing import Any

from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from contract.grades import Score
from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.courses import grades
from notifier.courses import service as courses
from receiver.course_state import Deleted, TokenAnnounced
from receiver.models import API, MOODLE, Entry, StoredScore
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.source import COURSES
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources import store as sources
from tests.integration.story.conftest import KEY, EAssessment
from tests.receiver.conftest import FakeSite
from tests.receiver.moodle.fake import FakeMoodle, Form
from tests.receiver.moodle.recordings import RECORDED, Recorded, failure

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
LOST_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
VAULT, LOST = Vault(SecretStr(KEY)), Vault(SecretStr(LOST_KEY))
ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
ELSEWHERE = "elsewhere"
# A person whose every score the gradebook refuses.
UNSTORABLE = "unstorable"

Result = tuple[str, str | None]

SYNCED = ("synced", None)
TRANSIENT = ("failed", "transient")
MISCONFIGURED = ("failed", "misconfigured")
DELETED = ("failed", "course_deleted")
INVALID = ("failed", "token_invalid")
SITE_TROUBLE = ("failed", "site_trouble")

# The result of each course of each source in the first run.
FIRST: dict[str, dict[str, Result]] = {
    "eassessment": {
        "WELL1": SYNCED,
        "WELL2": SYNCED,
        "WELL3": SYNCED,
        "DELETED": DELETED,
        "DELETED-ANNOUNCED": ("skipped", "course_deleted"),
        "OLD-TOKEN": INVALID,
        "OLD-TOKEN-ANNOUNCED": ("skipped", "token_invalid"),
        "UNKNOWN-TOKEN": INVALID,
        "TOKEN-OF-ANOTHER": INVALID,
        "UNKNOWN": MISCONFIGURED,
        "LOST-KEY": ("failed", "token_unreadable"),
        "UNSTORABLE": ("failed", "unforeseen"),
    },
    "away": {"AWAY1": TRANSIENT, "AWAY2": TRANSIENT},
    "failing": {
        "CUT": TRANSIENT,
        "ERROR": TRANSIENT,
        "GONE": DELETED,
        "REDIRECT": MISCONFIGURED,
        "SILENT": TRANSIENT,
        "WELL4": SYNCED,
    },
    "moodle": {
        "2": SYNCED,
        "3": DELETED,
        "4": INVALID,
        "5": MISCONFIGURED,
        "6": TRANSIENT,
        "CS7": MISCONFIGURED,
        "8": TRANSIENT,
    },
    "moodle-token": {"2": INVALID, "3": INVALID},
    "moodle-suspended": {"2": SITE_TROUBLE, "3": ("skipped", "site_trouble")},
    "moodle-silent": {"2": TRANSIENT, "3": TRANSIENT},
    "moodle-lost-key": {"2": SITE_TROUBLE, "3": SITE_TROUBLE},
}


def in_second_run(first: Result) -> Result:
    """Return the result in the second run of a course that had this result in the first one."""
    if first == SYNCED:
        return "unchanged", None
    return ("skipped", first[1]) if first in {DELETED, INVALID} else first


def cut(handler: Any) -> None:
    """Respond with less than is announced."""
    handler.send_response(200)
    handler.send_header("Content-Length", "4096")
    handler.end_headers()
    handler.wfile.write(b'{"course_id": ')
    handler.close_connection = True


def by_course(form: Form) -> Recorded:
    """Respond as a Moodle in which each course has a problem of its own."""
    return {
        "2": RECORDED["grades"],
        "3": RECORDED["course_deleted_own_token"],
        "4": RECORDED["token_invalid"],
        "5": RECORDED["token_of_another_course"],
        "6": Recorded(200, "application/json", failure(exception="Error", message="crashed")),
        "8": Recorded(200, "application/json", b'{"usergrades": {"2": NaN}}'),
    }[form["courseid"]]


@dataclass
class Everything:
    """ELMS, all its sources, and every secret that it holds."""

    elms: Database
    eassessment: EAssessment
    site: FakeSite
    moodles: dict[str, FakeMoodle]
    secrets: set[str] = field(default_factory=set)
    over: Event = field(default_factory=Event)

    def add_source(self, name: str, url: str, site_token: tuple[MoodleToken, Vault] | None) -> None:
        """Add a source; one with a site-wide token is a Moodle."""
        with self.elms.writing() as session:
            source = sources.add(session, name, url, MOODLE if site_token else API, now=NINE)
            if site_token:
                sources.set_site_token(session, source, site_token[0], vault=site_token[1])
                self.secrets.add(site_token[0].reveal())

    def add_course(
        self, source: str, course_id: str, token: CourseToken | MoodleToken, vault: Vault = VAULT
    ) -> None:
        """Add a course to the grade sync."""
        self.secrets.add(token.secret if isinstance(token, CourseToken) else token.reveal())
        with self.elms.writing() as session:
            at = sources.get(session, source)
            # An older release may have accepted ids that no course of a Moodle has.
            number = course_id.removeprefix("CS") if at.kind == MOODLE else course_id
            entry = registry.add(session, at, number, token, vault=vault, actor=ADA, now=NINE)
            entry.course_id = course_id

    def announce(self, course_id: str, fact: registry.Fact) -> None:
        """Apply a fact about a course of eAssessment as a webhook does."""
        actor = Actor(ActorKind.WEBHOOK, "msg_1")
        with self.elms.writing() as session:
            source_id = sources.get(session, "eassessment").id
            registry.apply(session, source_id, course_id, fact, actor=actor, now=NINE)

    def entries(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the columns of every entry, by source and course."""
        with self.elms.reading() as session:
            rows = session.scalars(select(Entry).options(joinedload(Entry.source)))
            return {
                (row.source.name, row.course_id): {
                    column.key: getattr(row, column.key) for column in Entry.__table__.columns
                }
                for row in rows
            }

    def graded(self) -> set[tuple[str, str]]:
        """Return the courses with grades in the gradebook."""
        names = {entry["id"]: name for name, entry in self.entries().items()}
        with self.elms.reading() as session:
            return {names[row] for row in session.scalars(select(StoredScore.entry_id))}

    def requests(self) -> Counter[tuple[str, str]]:
        """Return the number of requests for each course of each source, so far."""
        requested = Counter(("failing", one.course_id) for one in self.site.asked)
        requested.update(("eassessment", one) for one in self.eassessment.requested)
        requested.update(
            (name, call.form["courseid"])
            for name, moodle in self.moodles.items()
            for call in moodle.called
            if call.function == FUNCTION
        )
        return requested


def add_everything(made: Everything) -> None:
    """Add every source with the courses of the table."""
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        away = f"http://127.0.0.1:{closed.getsockname()[1]}"
    token = CourseToken.generate()
    for source, url in (("away", away), ("failing", made.site.url)):
        made.add_source(source, url, None)
        for course_id in FIRST[source]:
            made.add_course(source, course_id, token)
    made.site.grades("WELL4", token, _score("ada").model_dump(mode="json", by_alias=True))
    made.site.gone("GONE")
    made.site.answer("ERROR", 500, b"oops")
    made.site.answer("REDIRECT", 302, Location=f"/{ELSEWHERE}")
    made.site.answers["CUT"] = cut
    made.site.answers["SILENT"] = lambda _: made.over.wait(60) and None
    _add_eassessment(made)
    for name, moodle in made.moodles.items():
        _add_moodle(made, name, moodle)


def _add_eassessment(made: Everything) -> None:
    made.add_source("eassessment", made.eassessment.url, None)
    ids = [one for one in FIRST["eassessment"] if one != "UNKNOWN"]
    with made.eassessment.database.writing() as session:
        tokens = {one: courses.add_course(session, one, one, now=NINE) for one in ids}
        grades.load(session, {one: [_score("ada"), _score("bob")] for one in ids}, now=NINE)
        grades.load(session, {"UNSTORABLE": [_score(UNSTORABLE)]}, now=NINE)
        tokens["UNKNOWN"] = tokens["WELL1"]
        tokens["UNKNOWN-TOKEN"] = CourseToken.generate()
        tokens["TOKEN-OF-ANOTHER"] = tokens["WELL2"]
        for course_id in ("DELETED", "DELETED-ANNOUNCED"):
            courses.delete_course(session, course_id, now=NINE)
        for course_id in ("OLD-TOKEN", "OLD-TOKEN-ANNOUNCED"):
            courses.regenerate_token(session, course_id, now=NINE)
    for course_id, token in tokens.items():
        vault = LOST if course_id == "LOST-KEY" else VAULT
        made.add_course("eassessment", course_id, token, vault)
    made.announce("DELETED-ANNOUNCED", Deleted(2, NINE))
    made.announce("OLD-TOKEN-ANNOUNCED", TokenAnnounced(2, "another1", NINE))


def _score(user_id: str) -> Score:
    return Score(
        user_id=user_id, score_given=Decimal("7.5"), score_maximum=Decimal(10), timestamp=NINE
    )


def _add_moodle(made: Everything, name: str, moodle: FakeMoodle) -> None:
    vault = LOST if name == "moodle-lost-key" else VAULT
    made.add_source(name, moodle.url, (_moodle_token(), vault))
    for course_id in FIRST[name]:
        made.add_course(name, course_id, _moodle_token())
    moodle.says(COURSES, "get_courses_omits_missing")
    recorded = {"moodle-token": "token_invalid", "moodle-suspended": "user_suspended"}
    moodle.says(FUNCTION, recorded.get(name, "grades"))
    if name == "moodle":
        moodle.answers[FUNCTION] = by_course
    elif name == "moodle-silent":
        moodle.slow.add(FUNCTION)


def _moodle_token() -> MoodleToken:
    return MoodleToken(secrets.token_hex(16))
