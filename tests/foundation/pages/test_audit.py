"""The page and the command that show the audit table, of both services."""

import json
from html import unescape

import pytest
from flask.testing import FlaskClient

from foundation.db import audit
from foundation.db.audit import Actor, Channel
from foundation.db.session import Database
from tests.foundation.pages.conftest import NINE, Run, each_service

ADA = Actor("Ada", Channel.PAGE, "192.0.2.7")


@each_service
def test_page_shows_matching_entries(signed_in: FlaskClient, database: Database) -> None:
    with database.writing() as session:
        audit.record(session, ADA, "user.add", "<Bob>", now=NINE)
        audit.record(session, ADA, "user.remove", "Carol", now=NINE)

    page = signed_in.get("/audit?action=user.add&since=2026-11-22").text

    assert '<a href="/audit?actor=Ada"><bdi class="name">Ada</bdi></a>' in page
    assert "page, 192.0.2.7" in page
    assert "1 entry found, newest first." in page
    assert "&lt;Bob&gt;" in page
    assert "Carol" not in page


def test_page_explains_a_time_that_is_none(signed_in: FlaskClient) -> None:
    page = signed_in.get("/audit?since=soon").text

    assert "&#39;soon&#39; is not a time such as 2h, yesterday or 2026-11-22T09:00" in page


@each_service
@pytest.mark.parametrize(
    ("action", "hint"),
    [
        pytest.param("user.ad", "did you mean &#39;user.add&#39;?", id="mistyped"),
        pytest.param("bogus", "the actions are ", id="anything else"),
    ],
)
def test_unknown_action_is_refused(
    signed_in: FlaskClient, run_program: Run, action: str, hint: str
) -> None:
    page = signed_in.get(f"/audit?action={action}").text
    command = run_program("audit", "list", "--action", action)

    assert hint in page
    assert '<option value="user.add">user.add</option>' in page
    assert "No entries match." not in page
    assert (command.exit_code, command.stdout) == (2, "")
    assert unescape(hint) in " ".join(command.stderr.split())


def test_each_filter_is_a_link_that_removes_it(signed_in: FlaskClient) -> None:
    page = signed_in.get("/audit?actor=Ada&since=2h&until=&after=[]").text

    assert '<a href="/audit?since=2h"><span class="unseen">Remove the filter </span>Actor:' in page
    assert '<a href="/audit?actor=Ada"><span class="unseen">Remove the filter </span>From:' in page
    assert "Remove the filter </span>Before" not in page


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        pytest.param("user=Ada", "parameter &#39;user&#39; is unknown", id="unknown"),
        pytest.param("actor=A&actor=B", "&#39;actor&#39; is given more than once", id="repeated"),
        pytest.param("%E2%80%AE" + "x" * 99, "&#39;\\u202exxx", id="hostile"),
    ],
)
def test_parameter_that_has_no_effect_is_refused(
    signed_in: FlaskClient, query: str, detail: str
) -> None:
    page = signed_in.get(f"/audit?{query}")

    assert page.status_code == 422
    assert detail in page.text
    assert (
        "Known parameters: action, actor, after, before, object_id, part_of, since, until."
        in page.text
    )


def test_entries_are_exported(signed_in: FlaskClient, database: Database) -> None:
    with database.writing() as session:
        audit.record_all(session, ADA, "user.add", ["Bob", "Carol"], now=NINE)
        audit.record(session, ADA, "user.remove", "Bob", now=NINE)

    rows = signed_in.get("/audit.csv?action=user.add").text.splitlines()

    assert rows[0] == "\ufeffrecorded_at,actor,channel,address,action,object_id,object_count,detail"
    assert [row.split(",")[5] for row in rows[1:]] == ["Carol", "Bob"]


def test_page_goes_through_the_list(signed_in: FlaskClient, database: Database) -> None:
    with database.writing() as session:
        for number in range(51):
            audit.record(session, ADA, "user.add", f"user {number}", now=NINE)

    first = signed_in.get("/audit?action=user").text
    link = first.rpartition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second = signed_in.get(link).text

    assert (
        first.count('<td data-label="Action">user.add'),
        second.count('<td data-label="Action">user.add'),
    ) == (50, 1)
    assert "user 0<" in second


def test_many_objects_are_listed_on_request(signed_in: FlaskClient, database: Database) -> None:
    ids = [f"CS{number}" for number in range(500)]
    with database.writing() as session:
        audit.record_all(session, ADA, "course.delete", ids, now=NINE)

    folded = signed_in.get("/audit").text
    link = folded.rpartition('data-label="Object"><a href="')[2].partition('"')[0]
    parts = signed_in.get(link).text
    exported = signed_in.get(link.replace("/audit", "/audit.csv")).text.splitlines()
    one = signed_in.get("/audit?object_id=CS7").text
    invalid = signed_in.get("/audit?part_of=many").text

    assert "1 entry, newest first." in folded
    assert ">500 courses</a>" in folded
    assert "500 entries found, newest first." in parts
    assert "Part of entry:" in parts
    assert len(exported) == 501
    assert "1 entry found, newest first." in one
    assert "Ada" in one
    assert 'class="fault"' in invalid


@each_service
def test_command_lists_what_commands_did(run_program: Run) -> None:
    run_program("users", "add", "Ada", stdin="correct horse battery\n")
    run_program("users", "remove", "Ada")

    listed = run_program("audit", "list", "--object", "Ada", "--since", "1h", "--limit", "1")
    older = run_program("audit", "list", "--before", "2", "--json")
    unknown = run_program("audit", "list", "--before", "9")
    exported = run_program(
        "audit", "list", "--action", "user.add", "--until", "2200-01-01", "--csv"
    )

    assert "user.remove" in listed.stdout
    assert "user.add" not in listed.stdout
    assert listed.stdout.endswith("1 of 2 entries. More: add --before 2\n")
    assert exported.stdout.splitlines()[0].startswith("recorded_at,actor,")
    assert len(exported.stdout.splitlines()) == 2
    [entry] = json.loads(older.stdout)["entries"]
    assert (entry["action"], entry["channel"], entry["address"]) == ("user.add", "command", None)
    assert "@" in entry["actor"]
    assert (unknown.exit_code, "there is no entry 9" in unknown.stderr) == (2, True)
