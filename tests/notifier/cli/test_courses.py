"""`notifier courses …`."""

import json
import os
import pty
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from contract.events import wire_time
from contract.tokens import CourseToken, MoodleToken
from foundation.text import readable
from notifier.cli import main
from notifier.courses import service as courses
from notifier.models import Course, Event, IssuedToken
from tests.notifier.cli.conftest import ReadJson, Run
from tests.notifier.conftest import NINE, Store, make_score

MOODLE_TOKEN = "0123456789abcdef" * 2


def test_add_prints_the_token_once(run: Run, read_json: ReadJson) -> None:
    result = run("courses", "add", "CS101", "--title", "Algorithms")
    as_json = read_json("courses", "add", "2026/Économie 1", "--title", "x")

    message, token = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert message == "The course CS101 is added. Its token, shown only once:"
    assert CourseToken.parse(token).reveal() == token
    assert CourseToken.parse(as_json["token"]).token_id == as_json["token_id"]


def test_add_refuses_a_taken_id(store: Store, run: Run) -> None:
    store.add_course("CS101")
    before = store.rows()

    result = run("courses", "add", "CS101", "--title", "Again")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: the course id 'CS101' is taken\n next: ")
    assert before == store.rows()


def test_list_pages_by_id_and_filters(store: Store, run: Run, read_json: ReadJson) -> None:
    empty = run("courses", "list")
    store.add_course("CS102", title="Größe und Maß")
    store.add_course("CS101", title="تاريخ")
    store.write(courses.delete_course, "CS101", now=NINE)

    first = run("courses", "list", "--limit", "1")
    rest = read_json("courses", "list", "--after", "CS101")["courses"]
    deleted = read_json("courses", "list", "--deleted")["courses"]

    assert empty.stdout.startswith("No courses. Add one with `notifier courses add")
    assert "تاريخ" in first.stdout
    assert "More: add --after CS101\n" in first.stdout
    assert [one["course_id"] for one in rest] == ["CS102"]
    assert [one["course_id"] for one in deleted] == ["CS101"]


def test_list_searches(store: Store, run: Run, read_json: ReadJson) -> None:
    for course_id, title in (("CS101", "Algorithms"), ("CS102", "Law"), ("LAW1", "Contracts")):
        store.add_course(course_id, title=title)

    found = read_json("courses", "list", "--matching", "law")["courses"]
    nothing = run("courses", "list", "--matching", "zzz")

    assert [one["course_id"] for one in found] == ["LAW1", "CS102"]
    assert nothing.stdout == "No courses match.\n"


def test_list_sorts_and_counts(store: Store, run: Run, read_json: ReadJson) -> None:
    store.add_courses(["CS101", "CS102", "CS103"])
    store.write(courses.delete_course, "CS102", now=NINE)

    first = run("courses", "list", "--sort", "-deleted", "--limit", "2")
    then = read_json("courses", "list", "--sort", "-deleted", "--after", "CS103")["courses"]
    deleted = read_json("courses", "list", "--deleted-since", "2026-11-22T09:00")["courses"]
    unknown = run("courses", "list", "--sort", "size")

    assert first.stdout.endswith("2 of 3 courses. More: add --after CS103\n")
    assert [one["course_id"] for one in then] == ["CS101"]
    assert [one["course_id"] for one in deleted] == ["CS102"]
    assert unknown.exit_code == 2
    assert "'size' is not a column to sort by (id, title, changed, deleted)" in unknown.stderr


def test_list_prints_csv_that_no_spreadsheet_computes(
    store: Store, run: Run, read_json: ReadJson
) -> None:
    token = store.add_course("CS101", title="=1+1")
    store.write(courses.ensure_course, "7", "In a Moodle", now=NINE)

    result = run("courses", "list", "--csv", "--limit", "1")
    refused = run("courses", "list", "--csv", "--json")
    listed = read_json("courses", "list")["courses"]

    at = wire_time(NINE)
    assert result.stdout.splitlines() == [
        "course_id,title,course_version,token_id,created_at,changed_at,deleted_at",
        f"7,In a Moodle,1,,{at},{at},",
        f"CS101,'=1+1,1,{token.token_id},{at},{at},",
    ]
    assert [one["token_id"] for one in listed] == [None, token.token_id]
    assert (refused.exit_code, refused.stdout) == (2, "")


def test_control_characters_of_a_title_are_escaped(store: Store, run: Run) -> None:
    title = "\u202egnp.exe\x07\x1b[31m\r\nred"
    store.add_course("CS101", title=title)

    table, document, facts = (
        run("courses", *words.split()).stdout for words in ("list", "list --json", "show CS101")
    )

    for shown in (table, document, facts):
        assert not {"\u202e", "\x07", "\x1b", "\r"} & set(shown)
        assert "gnp.exe" in shown
    assert json.loads(document)["courses"][0]["title"] == title


def test_show_lists_tokens_and_deliveries(store: Store, run: Run, read_json: ReadJson) -> None:
    endpoint = store.add_endpoint(name="ELMS production")
    first = store.add_course("CS101", title="Algorithms").token_id
    second = store.write(courses.regenerate_token, "CS101", now=NINE).token_id

    text = run("courses", "show", "CS101").stdout
    shown = read_json("courses", "show", "CS101")

    assert [one["token_id"] for one in shown["tokens"]] == [first, second]
    assert [(one["event_type"], one["status"]) for one in shown["deliveries"]] == [
        ("token.regenerated", "pending")
    ]
    [delivery] = shown["deliveries"]
    assert (delivery["endpoint_id"], delivery["endpoint_name"]) == (endpoint.id, "ELMS production")
    for words in (first, second, "token.regenerated", "pending", "Algorithms", "ELMS production"):
        assert words in text


def test_regenerate_token_prints_the_new_one(store: Store, run: Run) -> None:
    old = store.add_course("CS101")

    message, new = run("courses", "regenerate-token", "CS101").stdout.splitlines()

    assert message == "The course CS101 has a new token, shown only once:"
    assert CourseToken.parse(new).token_id != old.token_id


@pytest.mark.parametrize(
    ("may_claim", "claimable"),
    [
        pytest.param(False, "", id="entered by hand"),
        pytest.param(True, ", and ELMS can claim the new one", id="claimable"),
    ],
)
def test_regenerate_token_with_an_overlap_says_until_when(
    store: Store, run: Run, may_claim: bool, claimable: str
) -> None:
    store.add_course("CS101")
    store.add_endpoint(may_claim_tokens=may_claim)

    message, _ = run("courses", "regenerate-token", "CS101", "--overlap", "24h").stdout.splitlines()

    (old, _) = store.all(IssuedToken)
    assert message == (
        "The course CS101 has a new token, shown only once; "
        f"the old one is good until {readable(old.valid_until)}{claimable}:"
    )
    assert readable(old.valid_until) in run("courses", "show", "CS101").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--overlap", "1h", "--now"), "either --now or --overlap", id="both"),
        pytest.param(("--overlap", "91d"), "is not between 1s and 90 days", id="too long"),
    ],
)
def test_invalid_overlap_is_refused(
    store: Store, run: Run, options: tuple[str, ...], message: str
) -> None:
    store.add_course("CS101")

    refused = run("courses", "regenerate-token", "CS101", *options)

    assert (refused.exit_code, message in refused.stderr) == (2, True)
    assert store.course("CS101").version == 1


def test_delete_reports_each_course(store: Store, run: Run) -> None:
    store.add_endpoint()
    for course_id in ("CS101", "CS102", "CS103"):
        store.add_course(course_id)

    result = run("courses", "delete", "CS101", "NONE", "CS101", "CS102")
    as_json = run(
        *("courses", "delete", "--from-file", "-", "--json"),
        stdin="title,course_id\r\n\nAlgorithms,CS103\nAlgorithms,CS103\n",
    )

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0] == "CS101: deleted; deliveries: 1 pending"
    assert lines[1].startswith("NONE: refused: there is no course 'NONE'")
    assert lines[3:] == ["Deleted 2 of 3 courses; 1 unknown"]
    assert as_json.exit_code == 0
    assert json.loads(as_json.stdout) == {
        "courses": [
            {
                "course_id": "CS103",
                "outcome": "deleted",
                "deliveries": {"pending": 1},
                "detail": "deleted; deliveries: 1 pending",
            }
        ],
        "not_reached": 0,
    }


def test_delete_matching_deletes_what_a_search_finds(store: Store, run: Run) -> None:
    store.add_endpoint()
    store.add_courses([*(f"CS{number}-2025" for number in range(30)), "CS1-2026"])

    unconfirmed = run("courses", "delete", "--matching", "cs 2025")
    everything = run("courses", "delete", "--matching", " ", "--yes")
    deleted = run("courses", "delete", "--matching", "cs 2025", "--yes")
    again = run("courses", "delete", "--matching", "cs 2025", "--yes")

    question = "Delete 30 courses (CS0-2025, CS1-2025, CS10-2025, …)?"
    assert (unconfirmed.exit_code, everything.exit_code) == (2, 2)
    assert question in unconfirmed.stderr
    assert deleted.stdout == "Deleted 30 of 30 courses; deliveries: 30 pending\n"
    assert (again.exit_code, again.stdout) == (0, "No active courses match.\n")
    assert [row.course_id for row in store.all(Course) if not row.deleted_at] == ["CS1-2026"]


def test_restore_reports_each_course(
    store: Store, run: Run, read_json: ReadJson, environment: pytest.MonkeyPatch
) -> None:
    store.add_endpoint()
    store.add_courses(["CS101", "CS102", "CS103", "OLD"])
    store.load({"CS102": [make_score()]})
    run("courses", "delete", "CS101", "CS102")
    store.write(courses.delete_course, "OLD", now=NINE)
    run("grades", "forget", "--course", "CS102", "--yes")
    environment.setenv("NOTIFIER_RESTORE_DAYS", "0.001")

    result = run("courses", "restore", "CS101", "--from-file", "-", stdin="CS102\nCS103\nOLD\nNO")
    again = run("courses", "restore", "CS101")
    changes = read_json("courses", "show", "CS101")["changes"]

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0] == "CS101: restored; deliveries: 1 pending"
    assert lines[1] == (
        "CS102: restored; deliveries: 1 pending; its grades were deleted meanwhile: "
        "import them again"
    )
    assert lines[2] == "CS103: not deleted"
    assert lines[3].startswith("OLD: refused: the deletion of the course 'OLD' at 2026-11-22")
    assert lines[4].startswith("NO: refused: there is no course 'NO'")
    assert lines[5] == "Restored 2 of 5 courses; 1 not deleted; 1 final; 1 unknown"
    assert (again.exit_code, again.stdout) == (0, "CS101: not deleted\n")
    assert [one["action"] for one in changes] == ["course.restore", "course.delete"]


def test_restore_matching_finds_what_can_be_restored(
    store: Store, run: Run, read_json: ReadJson
) -> None:
    store.add_courses(["CS1-2025", "CS2-2025", "CS3-2025", "CS1-2026"])
    run("courses", "delete", "CS1-2025", "CS2-2025", "CS1-2026")
    store.write(courses.delete_course, "CS3-2025", now=NINE - timedelta(days=400))

    unconfirmed = run("courses", "restore", "--matching", "2025")
    restored = read_json("courses", "restore", "--matching", "2025", "--yes")
    again = run("courses", "restore", "--matching", "2025", "--yes")

    assert "Restore 2 courses (CS1-2025, CS2-2025)?" in unconfirmed.stderr
    assert {one["course_id"]: one["outcome"] for one in restored["courses"]} == {
        "CS1-2025": "restored",
        "CS2-2025": "restored",
    }
    assert again.stdout == "No courses that can be restored match.\n"


def test_deletions_of_a_course_are_reported_each_on_its_own(store: Store, run: Run) -> None:
    store.add_endpoint()
    store.add_course("CS101")

    results = [
        run("courses", *verb, "CS101").stdout for verb in (["delete"], ["restore"], ["delete"])
    ]

    assert results[0] == results[2] == "CS101: deleted; deliveries: 1 pending\n"


def test_many_deletions_list_only_unknown_courses(store: Store, run: Run) -> None:
    store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=NINE)
    ids = ["CS101", *(f"X{number}" for number in range(30))]

    result = run("courses", "delete", "--from-file", "-", stdin="\n".join(ids))

    *lines, more, total = result.stdout.splitlines()
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in lines] == ids[1:21]
    assert more == "and 10 more unknown; --json lists all"
    assert total == "Deleted 0 of 31 courses; 1 already deleted; 30 unknown"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"CS101\n ..\n", "line 2 of the file: ", id="no course id"),
        pytest.param(b"CS101\n\xe9\n", "the file is not UTF-8", id="Latin-1"),
        pytest.param(b"course_id,title\nCS101\n", "line 2: the line has more", id="no CSV"),
        pytest.param(b"\n", "there are no course ids in ids.txt", id="empty"),
    ],
)
def test_delete_reads_the_whole_file_first(
    store: Store, run: Run, content: bytes, message: str
) -> None:
    store.add_course("CS101")
    Path("ids.txt").write_bytes(content)
    before = store.rows()

    result = run("courses", "delete", "--from-file", "ids.txt")

    assert result.exit_code == 2
    assert message in result.stderr
    assert before == store.rows()


def test_interrupted_deletion_is_reported_and_resumed(store: Store, run: Run) -> None:
    course_ids = [f"CS{number}" for number in range(1, 503)]
    store.add_courses(course_ids)
    Path("ids.txt").write_text("\n".join(course_ids))
    trigger = text(
        "CREATE TRIGGER full_disk BEFORE INSERT ON events WHEN NEW.course_id = 'CS502' "
        "BEGIN SELECT abs(-9223372036854775807 - 1); END"
    )
    store.write(lambda session: session.execute(trigger))

    failed = run("courses", "delete", "--from-file", "ids.txt")
    deleted = [row.course_id for row in store.all(Course) if row.deleted_at]
    store.write(lambda session: session.execute(text("DROP TRIGGER full_disk")))
    resumed = run("courses", "delete", "--from-file", "ids.txt")
    one = run("courses", "delete", "CS500")

    total, not_reached = failed.stdout.splitlines()
    assert failed.exit_code == 4
    assert failed.stderr.startswith("error: the database cannot be used: ")
    assert deleted == course_ids[:500]
    assert total.startswith("Deleted 500 of 502 courses; deliveries: none")
    assert not_reached == "Not reached: 2. Run the command again."
    assert resumed.exit_code == 0
    assert resumed.stdout.startswith("Deleted 2 of 502 courses; 500 already deleted; ")
    assert re.fullmatch(
        r"CS500: already deleted at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", one.stdout
    )
    assert len(store.all(Event)) == 502


@pytest.mark.parametrize(
    ("options", "is_shown"),
    [pytest.param((), True, id="text"), pytest.param(("--json",), False, id="JSON")],
)
def test_deletion_shows_its_progress_on_a_terminal(
    store: Store,
    run: Run,
    environment: pytest.MonkeyPatch,
    options: tuple[str, ...],
    is_shown: bool,
) -> None:
    store.add_course("CS101")
    ours, theirs = pty.openpty()

    with os.fdopen(theirs, "w") as terminal:
        environment.setattr(sys, "stderr", terminal)
        with pytest.raises(SystemExit):
            main(["courses", "delete", "CS101", "--yes", *options])
        print("end", file=terminal, flush=True)
        shown = os.read(ours, 4096).decode()

    os.close(ours)
    assert ("Deleting courses" in shown) is is_shown


def test_delete_asks_for_confirmation_on_a_terminal(
    store: Store, run: Run, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.add_course("CS101")
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")

    with os.fdopen(theirs) as terminal:
        environment.setattr(sys, "stdin", terminal)
        with pytest.raises(SystemExit) as ended:
            main(["courses", "delete", "CS101"])

    os.close(ours)
    assert ended.value.code == 1
    assert "".join(capsys.readouterr()) == "Delete 1 course (CS101)? [y/N]: Aborted!\n"
    assert store.course("CS101").deleted_at is None


@pytest.mark.parametrize(
    ("options", "stdin", "token_id"),
    [
        pytest.param((), f"{MOODLE_TOKEN}\n", MoodleToken(MOODLE_TOKEN).token_id, id="token"),
        pytest.param(("--token-id", "m" + "0" * 16), None, "m" + "0" * 16, id="token id"),
        pytest.param(("--unknown",), None, None, id="unknown"),
    ],
)
def test_announce_token_sends_only_the_public_id(
    run: Run, store: Store, options: tuple[str, ...], stdin: str | None, token_id: str | None
) -> None:
    result = run("courses", "announce-token", "7", *options, stdin=stdin)

    stored = store.rows()
    assert result.exit_code == 0
    assert result.stdout.endswith(f"new token of 7: {token_id or 'not known'}\n")
    assert "token.regenerated" in stored["events"][0]
    assert MOODLE_TOKEN not in str(stored) + result.output


def test_announce_token_accepts_a_known_course_of_any_name(
    store: Store, read_json: ReadJson
) -> None:
    store.write(courses.ensure_course, "BIO 101", "Biology", now=NINE)

    announced = read_json("courses", "announce-token", "BIO 101", stdin=f"{MOODLE_TOKEN}\n")

    assert announced["token_id"] == MoodleToken(MOODLE_TOKEN).token_id


def test_announce_token_refuses_what_is_mistyped(store: Store, run: Run) -> None:
    course = run("courses", "announce-token", "BIO 101", stdin=f"{MOODLE_TOKEN}\n")
    token = run("courses", "announce-token", "7", stdin="eas_nothing\n")

    assert (course.exit_code, token.exit_code) == (1, 1)
    assert "no course 'BIO 101' here" in course.stderr
    assert "Copy the whole token again" in token.stderr
    assert store.all(Event) == []
