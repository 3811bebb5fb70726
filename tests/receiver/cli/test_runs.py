"""`receiver runs …`."""

import json

from foundation.errors import Advice
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import Store

RESULTS = (
    CourseResult("one", "CS101", CourseOutcome.SYNCED),
    CourseResult(
        "one", "CS102", CourseOutcome.FAILED, "transient", "responded 503", None, Advice("Wait.")
    ),
)


def test_list_shows_each_run(receiver: Receiver, store: Store) -> None:
    store.add_run(*RESULTS)

    table = receiver("runs", "list").stdout
    [listed] = json.loads(receiver("runs", "list", "--limit", "1", "--json").stdout)

    assert "ada@elms" in table
    assert "completed with errors" in table
    assert (listed["run_id"], listed["by"], listed["partial"]) == (1, "ada@elms", False)
    assert (listed["synced"], listed["failed"]) == (1, 1)
    assert (listed["requests"], listed["database_queries"], listed["seconds"]) == (2, 7, 1.25)


def test_show_prints_the_result_of_each_course(receiver: Receiver, store: Store) -> None:
    store.add_run(*RESULTS)

    text = receiver("runs", "show").stdout
    failed = json.loads(receiver("runs", "show", "1", "--outcome", "failed", "--json").stdout)

    assert all(words in text for words in ("CS101", "responded 503", "Wait."))
    assert failed["status"] == "completed with errors"
    assert [course["course_id"] for course in failed["courses"]] == ["CS102"]


def test_without_a_run_both_say_so(receiver: Receiver) -> None:
    listed, shown = receiver("runs", "list"), receiver("runs", "show", "7")

    assert listed.stdout == "No runs yet. Start one with `receiver sync-grades`.\n"
    assert shown.exit_code == 1
    assert "there is no run 7" in shown.stderr
    assert "receiver runs list" in shown.stderr
