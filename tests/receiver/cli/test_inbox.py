"""`receiver inbox list`."""

import json
from datetime import timedelta

import pytest

from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import NINE, Store, make_deleted


@pytest.fixture(autouse=True)
def messages(store: Store) -> None:
    """Three webhooks of one source, one of them with the id of one of another source."""
    for number, course_id in enumerate(("CS101", "CS102", "BIO1")):
        at = NINE + timedelta(minutes=number)
        store.receive(f"msg_{number}", make_deleted(course_id=course_id), at=at)
    store.receive("msg_0", make_deleted(source="two"), source="two", at=NINE - timedelta(hours=1))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param([], ["msg_2", "msg_1", "msg_0", "msg_0"], id="all"),
        pytest.param(["--webhook-id", "msg_1"], ["msg_1"], id="webhook id"),
        pytest.param(["--course", "CS101", "--source", "one"], ["msg_0"], id="course of a source"),
        pytest.param(["--matching", "cs"], ["msg_1", "msg_0", "msg_0"], id="part of the id"),
        pytest.param(["--outcome", "stale"], [], id="outcome"),
        pytest.param(["--since", NINE.isoformat(), "--limit", "1"], ["msg_2"], id="time, limit"),
        pytest.param(["--before", "msg_1"], ["msg_0", "msg_0"], id="next page"),
    ],
)
def test_list_filters(receiver: Receiver, words: list[str], expected: list[str]) -> None:
    listed = receiver("inbox", "list", *words, "--json")

    assert (listed.exit_code, listed.stderr) == (0, "")
    assert [row["webhook_id"] for row in json.loads(listed.stdout)["webhooks"]] == expected


def test_list_is_a_table_or_csv(receiver: Receiver) -> None:
    table = receiver("inbox", "list", "--limit", "2")
    exported = receiver("inbox", "list", "--matching", "bio", "--csv")

    assert "course.deleted" in table.stdout
    assert table.stdout.endswith("2 of 4 webhooks. More: add --before msg_1\n")
    assert exported.stdout.splitlines() == [
        "received_at,source,webhook_id,event_type,course_id,course_version,outcome",
        "2026-11-22T09:02:00.123456Z,one,msg_2,course.deleted,BIO1,4,applied",
    ]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        pytest.param(["--before", "msg_0"], 2, "several sources sent msg_0", id="unclear"),
        pytest.param(["--before", "x"], 2, "no webhook x was received", id="unknown webhook"),
        pytest.param(["--source", "x"], 1, "there is no source 'x'", id="unknown source"),
        pytest.param(["--outcome", "duplicate"], 2, "is not one of 'applied'", id="not stored"),
        pytest.param(["--matching", "x" * 256], 2, "256 characters; expected 0 to 255", id="long"),
        pytest.param(["--csv", "--json"], 2, "either --csv or --json", id="two formats"),
    ],
)
def test_wrong_options_are_refused(
    receiver: Receiver, words: list[str], code: int, error: str
) -> None:
    result = receiver("inbox", "list", *words)

    assert (result.exit_code, error in result.stderr) == (code, True)
