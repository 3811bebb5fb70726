"""`receiver registry set-token`: when a new token replaces a working one."""

from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import update

from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Status, TokenAnnounced
from receiver.models import Entry, Source
from receiver.moodle.grade_report import FUNCTION
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from tests.receiver.moodle.fake import FakeMoodle, serving

GOOD, STRANGER = "0123456789abcdef0123456789abcdef", "f" * 32
ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")


@pytest.fixture
def moodle(receiver: Callable[..., Result]) -> Iterator[FakeMoodle]:
    """A Moodle that lets one token in, and is ELMS's only source."""
    with serving() as there:
        there.tokens = {GOOD}
        there.says(FUNCTION, "grades")
        receiver("sources", "add", "moodle", "--url", there.url, "--kind", "moodle", stdin="\n")
        yield there


@pytest.mark.parametrize("runs", [1, 2])
def test_token_that_moodle_accepted_is_not_replaced_by_a_rejected_one(
    receiver: Callable[..., Result],
    moodle: FakeMoodle,
    entry_of: Callable[[str], Entry],
    runs: int,
) -> None:
    receiver("registry", "add", "7", stdin=GOOD)
    for _ in range(runs):
        receiver("sync-grades")

    entered = receiver("registry", "set-token", "7", stdin=STRANGER)

    assert entered.exit_code == 1
    assert "was not entered: eAssessment rejected it: invalidtoken" in entered.stderr
    assert entry_of("7").stored_token_id == MoodleToken(GOOD).token_id
    told = receiver("registry", "show", "7").stdout
    assert told.count("token accepted") == 1


def test_unchanged_grades_count_as_accepted_token(
    receiver: Callable[..., Result], moodle: FakeMoodle, database: Database
) -> None:
    receiver("registry", "add", "7", stdin=GOOD)
    receiver("sync-grades")
    with database.writing() as session:
        session.execute(update(Entry).values(accepted_token_id=None, accepted_at=None))
    synced = receiver("sync-grades", "--json")

    entered = receiver("registry", "set-token", "7", stdin=STRANGER)

    assert '"unchanged": 1' in synced.stdout
    assert (entered.exit_code, "was not entered" in entered.stderr) == (1, True)


def test_concurrent_token_is_not_overwritten(
    receiver: Callable[..., Result],
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    fake_site: Any,
    database: Database,
    vault: Vault,
    entry_of: Callable[[str], Entry],
    now: datetime,
) -> None:
    first, entered, present = (CourseToken.generate() for _ in range(3))
    source = make_source("one", fake_site.url)
    entry = make_entry(source, token=first, facts=(TokenAnnounced(4, first.token_id, now),))
    fake_site.grades("CS101", entered, course_version=5)
    answer = fake_site.answers["CS101"]

    def regenerate_and_enter_the_present_one(handler: BaseHTTPRequestHandler) -> None:
        with database.writing() as session:
            held = session.get_one(Entry, entry.id)
            registry.set_token(session, held, present, vault=vault, actor=ADA, now=now)
            named = TokenAnnounced(6, present.token_id, now)
            registry.apply(session, source.id, "CS101", named, actor=ADA, now=now)
        answer(handler)
        fake_site.regenerated("CS101", present.token_id, 6)

    fake_site.answers["CS101"] = regenerate_and_enter_the_present_one

    result = receiver("registry", "set-token", "CS101", stdin=entered.reveal())

    assert (result.exit_code, len(fake_site.asked)) == (1, 2)
    assert f"it was regenerated, and the current token is {present.token_id}" in result.stderr
    assert entry_of("CS101").stored_token_id == present.token_id
    assert registry.course_status(entry_of("CS101")).status is Status.ACTIVE


@pytest.fixture
def old_and_new(
    receiver: Callable[..., Result],  # it makes the folder that the file is in
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    fake_site: Any,
    now: datetime,
) -> dict[str, CourseToken]:
    """Two good courses: of CS101 an old token is in `tokens.csv`, of CS102 one that is newer."""
    tokens = {name: CourseToken.generate() for name in ("held", "old", "newer")}
    source = make_source("one", fake_site.url)
    for course_id in ("CS101", "CS102"):
        named = TokenAnnounced(4, tokens["held"].token_id, now)
        make_entry(source, course_id, token=tokens["held"], facts=(named,))
    fake_site.regenerated("CS101", tokens["held"].token_id, 4)
    fake_site.grades("CS102", tokens["newer"], course_version=5)
    old, newer = tokens["old"].reveal(), tokens["newer"].reveal()
    Path("tokens.csv").write_text(
        f"course_id,token,gradebook_course,gradebook_activity\nCS101,{old},7,42\nCS102,{newer},,\n"
    )
    return tokens


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        pytest.param(
            ["set-token", "--from-file", "tokens.csv"],
            "1 active, 0 need action; 1 token not accepted",
            id="entered",
        ),
        pytest.param(
            ["import", "tokens.csv"],
            "0 new, 2 changed, 0 unchanged; 1 token not accepted",
            id="imported",
        ),
    ],
)
def test_old_token_in_a_file_does_not_replace_a_working_one(
    receiver: Callable[..., Result],
    old_and_new: dict[str, CourseToken],
    fake_site: Any,
    entry_of: Callable[[str], Entry],
    words: list[str],
    counts: str,
) -> None:
    result = receiver("registry", *words)

    assert (result.exit_code, len(fake_site.asked)) == (1, 2)
    assert counts in result.stdout
    told = " ".join(result.stdout.split())
    assert f"the token {old_and_new['old'].token_id} was not entered" in told
    held = [entry_of(course_id).stored_token_id for course_id in ("CS101", "CS102")]
    assert held == [old_and_new["held"].token_id, old_and_new["newer"].token_id]
    stands = [
        registry.course_status(entry_of(course_id)).status for course_id in ("CS101", "CS102")
    ]
    assert stands == [Status.ACTIVE, Status.ACTIVE]


def test_line_with_a_refused_token_still_sets_the_activity(
    receiver: Callable[..., Result],
    old_and_new: dict[str, CourseToken],
    entry_of: Callable[[str], Entry],
) -> None:
    receiver("registry", "import", "tokens.csv")

    entry = entry_of("CS101")
    assert (entry.gradebook_course, entry.gradebook_activity) == ("7", "42")
