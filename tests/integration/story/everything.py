"""ELMS with sources of every kind, courses of every end, and what is to become of each."""

import secrets
import socket
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
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
from tests.integration.story import far_sides
from tests.integration.story.conftest import KEY, EAssessment
from tests.integration.story.far_sides import FarSides, Say
from tests.receiver.moodle.fake import FakeMoodle, Form
from tests.receiver.moodle.recordings import RECORDED, Recorded, failure

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
LOST_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
VAULT, LOST = Vault(SecretStr(KEY)), Vault(SecretStr(LOST_KEY))
ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
HTML = b"<html><body>It works!</body></html>"
ELSEWHERE = "elsewhere"
UNSTORABLE = "unstorable"
"""A person of whom the gradebook refuses every score."""

WELL = ("synced", None)
AGAIN = ("unchanged", None)
LATER = ("failed", "transient")
WRONG = ("failed", "misconfigured")
DELETED = ("failed", "course_deleted")
INVALID = ("failed", "token_invalid")
SITE_TROUBLE = ("failed", "site_trouble")
UNREADABLE = ("failed", "token_unreadable")
UNSTORED = ("failed", "unforeseen")

FIRST: dict[str, dict[str, tuple[str, str | None]]] = {
    "eassessment": {
        "WELL1": WELL,
        "WELL2": WELL,
        "WELL3": WELL,
        "GONE": DELETED,
        "GONE-HEARD": ("skipped", "course_deleted"),
        "OLD": INVALID,
        "OLD-HEARD": ("skipped", "token_invalid"),
        "STRANGE": INVALID,
        "ANOTHERS": INVALID,
        "NEVER-WAS": WRONG,
        "SEALED": UNREADABLE,
        "UNSTORED": UNSTORED,
    },
    "away": {"X1": LATER, "X2": LATER},
    "error": {"X1": LATER, "X2": LATER},
    "html": {"X1": LATER, "X2": LATER},
    "broken": {"X1": LATER, "X2": LATER},
    "silent": {"X1": LATER, "X2": LATER},
    "endless": {"X1": LATER, "X2": LATER},
    "cut": {"X1": LATER, "X2": LATER},
    "redirect": {"X1": WRONG, "X2": WRONG},
    "proxy": {"X1": WRONG, "X2": WRONG},
    "nowhere": {"X1": WRONG, "X2": WRONG},
    "single": {"WELL1": WELL, "GONE": DELETED, "BUSY": LATER, "WELL2": WELL},
    "swaps": {"WELL1": WELL, "WELL2": WELL},
    "omits": {"WELL1": WELL, "WELL2": WELL},
    "adds": {"WELL1": WELL, "WELL2": WELL},
    "mixes": {"WELL1": WELL, "WELL2-MIXED": WRONG, "WELL3": WELL},
    "moodle": {
        "2": WELL,
        "3": DELETED,
        "4": INVALID,
        "5": WRONG,
        "6": LATER,
        "CS7": WRONG,
        "8": LATER,
    },
    "moodle-token": {"2": INVALID, "3": INVALID},
    "moodle-suspended": {"2": SITE_TROUBLE, "3": ("skipped", "site_trouble")},
    "moodle-off": {"2": SITE_TROUBLE, "3": ("skipped", "site_trouble")},
    "moodle-xml": {"2": LATER, "3": LATER},
    "moodle-crash": {"2": LATER, "3": LATER},
    "moodle-silent": {"2": LATER, "3": LATER},
    "moodle-cut": {"2": LATER, "3": LATER},
    "moodle-sealed": {"2": SITE_TROUBLE, "3": SITE_TROUBLE},
}
"""What becomes of each course of each source in the first run."""


def seconds(one: tuple[str, str | None]) -> tuple[str, str | None]:
    """Return what becomes in the second run of what became this in the first one."""
    if one == WELL:
        return AGAIN
    return ("skipped", one[1]) if one in {DELETED, INVALID} else one


BEHAVIOURS: dict[str, Say] = {
    "error": far_sides.says(500, b"oops"),
    "html": far_sides.says(200, HTML, Content_Type="text/html"),
    "broken": far_sides.says(200, b'{"answers": [{"course_id": "X1", "sta'),
    "silent": far_sides.is_silent,
    "endless": far_sides.ends_never,
    "cut": far_sides.breaks_off,
    "redirect": far_sides.says(302, b"", Location=f"/{ELSEWHERE}/x/grades"),
    "proxy": far_sides.says(401, HTML, Content_Type="text/html"),
    "single": far_sides.has_no_batch,
    "swaps": far_sides.in_batches(lambda items: items[::-1]),
    "omits": far_sides.in_batches(lambda items: items[1:]),
    "adds": far_sides.in_batches(lambda items: [*items, items[0]]),
    "mixes": far_sides.in_batches(
        lambda items: [items[0], far_sides.of_another(items[1]), items[2]]
    ),
}


def by_course(form: Form) -> Recorded:
    """Answer as a Moodle in which each course has a trouble of its own."""
    crashed = Recorded(200, "application/json", failure(exception="Error", message="crashed"))
    return {
        "2": RECORDED["grades"],
        "3": RECORDED["course_deleted_own_token"],
        "4": RECORDED["token_invalid"],
        "5": RECORDED["token_of_another_course"],
        "6": crashed,
        "8": Recorded(200, "application/json", b'{"usergrades": {"2": NaN}}'),
    }[form["courseid"]]


@dataclass
class Everything:
    """ELMS, all that answers it, and every secret that it holds."""

    here: Database
    there: EAssessment
    others: FarSides
    moodles: dict[str, FakeMoodle]
    held: set[str] = field(default_factory=set)

    def add_source(self, name: str, url: str, site_token: tuple[MoodleToken, Vault] | None) -> None:
        """Add a source; one with a site token is a Moodle."""
        with self.here.writing() as session:
            source = sources.add(session, name, url, MOODLE if site_token else API, now=NINE)
            if site_token:
                sources.set_site_token(session, source, site_token[0], vault=site_token[1])
                self.held.add(site_token[0].reveal())

    def link(
        self, source: str, course_id: str, token: CourseToken | MoodleToken, vault: Vault = VAULT
    ) -> None:
        """Put a course into grade sync."""
        self.held.add(token.secret if isinstance(token, CourseToken) else token.reveal())
        with self.here.writing() as session:
            at = sources.get(session, source)
            # One that an older release took in, though a Moodle has no course of such an id.
            number = course_id.removeprefix("CS") if at.kind == MOODLE else course_id
            entry = registry.add(session, at, number, token, vault=vault, actor=ADA, now=NINE)
            entry.course_id = course_id

    def told(self, source: str, course_id: str, fact: registry.Fact) -> None:
        """Let a webhook have told something."""
        with self.here.writing() as session:
            registry.apply(
                session, sources.get(session, source).id, course_id, fact,
                actor=Actor(ActorKind.WEBHOOK, "msg_1"), now=NINE,
            )  # fmt: skip

    def entries(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return every entry's columns, by source and course."""
        with self.here.reading() as session:
            rows = session.scalars(select(Entry).options(joinedload(Entry.source)))
            return {
                (row.source.name, row.course_id): {
                    column.key: getattr(row, column.key) for column in Entry.__table__.columns
                }
                for row in rows
            }

    def gradebook(self) -> set[tuple[str, str]]:
        """Return the courses of which there are grades."""
        with self.here.reading() as session:
            known = {entry["id"]: name for name, entry in self.entries().items()}
            return {known[row] for row in session.scalars(select(StoredScore.entry_id))}

    def requests(self) -> Counter[tuple[str, str]]:
        """Return how often which course of which source was asked for, so far."""
        asked = Counter(self.others.asked)
        asked.update(("eassessment", course_id) for course_id in self.there.asked)
        asked.update(
            (name, called.form["courseid"])
            for name, moodle in self.moodles.items()
            for called in moodle.called
            if called.function == FUNCTION
        )
        return asked


def link_all(made: Everything) -> None:
    """Add every source, and link the courses of the table."""
    nobody = socket.create_server(("127.0.0.1", 0))
    with closing(nobody):
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    _link_eassessment(made)
    _link_others(made, away)
    _link_moodles(made)


def _link_eassessment(made: Everything) -> None:
    """Let eAssessment know its courses, and ELMS what it heard or missed of them."""
    made.add_source("eassessment", made.there.url, None)
    ids = [one for one in FIRST["eassessment"] if one != "NEVER-WAS"]
    with made.there.database.writing() as session:
        tokens = {one: courses.add_course(session, one, one, now=NINE) for one in ids}
        grades.load(session, {one: [_score("ada"), _score("bob")] for one in ids}, now=NINE)
        grades.load(session, {"UNSTORED": [_score(UNSTORABLE)]}, now=NINE)
        tokens["NEVER-WAS"] = tokens["WELL1"]
        tokens["STRANGE"] = CourseToken.generate()
        tokens["ANOTHERS"] = tokens["WELL2"]
    for course_id, token in tokens.items():
        made.link("eassessment", course_id, token, LOST if course_id == "SEALED" else VAULT)
    made.told("eassessment", "GONE-HEARD", Deleted(2, NINE))
    made.told("eassessment", "OLD-HEARD", TokenAnnounced(2, "another1", NINE))
    with made.there.database.writing() as session:
        for gone in ("GONE", "GONE-HEARD"):
            courses.delete_course(session, gone, now=NINE)
        for old in ("OLD", "OLD-HEARD"):
            courses.regenerate_token(session, old, now=NINE)


def _score(user_id: str) -> Score:
    return Score(
        user_id=user_id, score_given=Decimal("7.5"), score_maximum=Decimal(10), timestamp=NINE
    )


def _link_others(made: Everything, away: str) -> None:
    """Link the courses of the sites that answer as they should not."""
    made.others.says.update(BEHAVIOURS)
    for site, ends in FIRST.items():
        if site == "eassessment" or site in made.moodles:
            continue
        made.add_source(site, away if site == "away" else f"{made.others.url}/{site}", None)
        for course_id in ends:
            token = CourseToken.generate()
            made.link(site, course_id, token)
            made.others.grades(site, course_id, token, "ada")
    made.others.gone("single", "GONE")
    made.others.meant["single", "BUSY"] = 503, {}


def _link_moodles(made: Everything) -> None:
    """Link the courses of the Moodles, and tell these what to answer."""
    for name, moodle in made.moodles.items():
        vault = LOST if name == "moodle-sealed" else VAULT
        made.add_source(name, moodle.url, (_moodle_token(), vault))
        for course_id in FIRST[name]:
            made.link(name, course_id, _moodle_token())
        moodle.says(FUNCTION, "grades")
        moodle.says(COURSES, "get_courses_omits_missing")
    made.moodles["moodle"].answers[FUNCTION] = by_course
    made.moodles["moodle-token"].says(FUNCTION, "token_invalid")
    made.moodles["moodle-suspended"].says(FUNCTION, "user_suspended")
    made.moodles["moodle-off"].says(FUNCTION, "web_services_off")
    made.moodles["moodle-xml"].says(FUNCTION, "token_invalid_xml")
    made.moodles["moodle-crash"].says(FUNCTION, "courses_by_field_ids_crash")
    made.moodles["moodle-silent"].slow.add(FUNCTION)
    made.moodles["moodle-cut"].broken.add(FUNCTION)


def _moodle_token() -> MoodleToken:
    return MoodleToken(secrets.token_hex(16))
