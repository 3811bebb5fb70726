"""`receiver runs …`."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from foundation.errors import Advice
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources.base import PersonProblem
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import NINE, Store

RESULTS = (
    CourseResult("one", "CS101", CourseOutcome.SYNCED),
    CourseResult(
        "one", "CS102", CourseOutcome.FAILED, "transient", "responded 503", None, Advice("Wait.")
    ),
)


def test_list_shows_each_run(receiver: Receiver, store: Store) -> None:
    store.add_run(*RESULTS)

    table = receiver("runs", "list").stdout
    [listed] = json.loads(receiver("runs", "list", "--limit", "1", "--json").stdout)["runs"]

    assert "ada@elms" in table
    assert "completed with errors" in table
    assert (listed["run_id"], listed["by"], listed["partial"]) == (1, "ada@elms", False)
    assert (listed["synced"], listed["failed"]) == (1, 1)
    assert (listed["requests"], listed["database_queries"], listed["seconds"]) == (2, 7, 1.25)


def test_list_has_filters_pages_and_csv(receiver: Receiver, store: Store) -> None:
    for days in range(4):
        store.add_run(*RESULTS, at=NINE + timedelta(days=days))
    words = ("runs", "list", "--since", "2026-11-23")

    first = receiver(*words, "--limit", "2")
    second = receiver(*words, "--limit", "2", "--before", "3", "--json")
    none = receiver("runs", "list", "--until", "2026-11-22")
    exported = receiver(*words, "--csv")
    courses = receiver("runs", "show", "2", "--csv", "--outcome", "failed")

    assert first.stdout.endswith("2 of 3 runs. More: add --before 3\n")
    document = json.loads(second.stdout)
    assert ([run["run_id"] for run in document["runs"]], document["next"]) == ([2], None)
    assert none.stdout == "No runs match.\n"
    assert [row.partition(",")[0] for row in exported.stdout.splitlines()] == [
        *("run_id", "4", "3", "2")
    ]
    assert courses.stdout.splitlines()[1:] == ["one,CS102,failed,transient,responded 503,,Wait.,"]


def test_show_prints_what_needs_attention(receiver: Receiver, store: Store) -> None:
    store.add_run(*RESULTS)

    text = receiver("runs", "show").stdout
    document = json.loads(receiver("runs", "show", "--json").stdout)

    assert all(words in text for words in ("CS102", "responded 503", "Wait."))
    assert "CS101" not in text
    assert document["status"] == "with_errors"
    assert [group["course_ids"] for group in document["groups"]] == [["CS102"]]
    assert [course["course_id"] for course in document["courses"]] == ["CS102"]


@pytest.mark.parametrize(
    ("options", "course_ids"),
    [
        pytest.param(("--all",), ["CS101", "CS102"], id="all"),
        pytest.param(("--outcome", "synced"), ["CS101"], id="outcome"),
        pytest.param(("--reason", "transient", "--source", "one"), ["CS102"], id="reason"),
        pytest.param(("--all", "--source", "two"), [], id="source"),
    ],
)
def test_show_lists_courses(
    receiver: Receiver, store: Store, options: tuple[str, ...], course_ids: list[str]
) -> None:
    store.add_run(*RESULTS)

    text = receiver("runs", "show", "1", *options).stdout
    document = json.loads(receiver("runs", "show", "1", *options, "--json").stdout)

    assert [course["course_id"] for course in document["courses"]] == course_ids
    assert [course_id for course_id in ("CS101", "CS102") if course_id in text] == course_ids


def test_show_counts_unchanged_courses(receiver: Receiver, store: Store) -> None:
    unchanged = CourseResult("one", "CS103", CourseOutcome.UNCHANGED)
    store.add_run(*RESULTS, unchanged)

    text = receiver("runs", "show", "--all").stdout
    document = json.loads(receiver("runs", "show", "--all", "--json").stdout)
    refused = receiver("runs", "show", "--outcome", "unchanged")

    assert text.endswith("1 unchanged course is counted, not listed.\n")
    assert (document["unchanged"], len(document["courses"])) == (1, 2)
    assert (refused.exit_code, "'synced', 'skipped', 'failed'" in refused.stderr) == (2, True)


def test_without_a_run_both_say_so(receiver: Receiver) -> None:
    listed, shown = receiver("runs", "list"), receiver("runs", "show", "7")

    assert listed.stdout == "No runs yet. Start one with `receiver sync-grades`.\n"
    assert shown.exit_code == 1
    assert "there is no run 7" in shown.stderr
    assert "receiver runs list" in shown.stderr


def test_show_lists_the_people_whose_scores_were_not_imported(
    receiver: Receiver, store: Store
) -> None:
    people = (
        PersonProblem("=s1", "2 users of ELMS have this ID number"),
        PersonProblem("s2", "ELMS has 5, locked there", kept=True),
    )
    store.add_run(replace(RESULTS[0], people=people))

    text = receiver("runs", "show", "--people").stdout
    listed = json.loads(receiver("runs", "show", "1", "--people", "--json").stdout)["people"]
    table = receiver("runs", "show", "--people", "--csv").stdout

    assert "locked there" in text
    assert listed[1] == {
        "source": "one",
        "course_id": "CS101",
        "user_id": "s2",
        "kept": True,
        "detail": "ELMS has 5, locked there",
    }
    assert table.splitlines()[1] == "one,CS101,'=s1,no,2 users of ELMS have this ID number"


def test_source_without_a_list_is_refused(receiver: Receiver) -> None:
    assert receiver("runs", "show", "--source", "one").exit_code == 2
