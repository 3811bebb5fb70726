"""Events from a Moodle: the ingest secret, what is accepted, and what is refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from notifier.app import create_app
from notifier.models import Course, Event, MoodleEventReceipt
from tests.notifier.app_fixtures import INGEST_SECRET, Refused, make_settings
from tests.notifier.conftest import SITE, Store

PATH = "/api/v1/ingest/moodle"
KEY = {"X-Api-Key": INGEST_SECRET}
SENT = json.loads(
    (Path(__file__).parents[1] / "moodle_events.json")
    .read_text(encoding="utf-8")
    .replace("s3cret-token", INGEST_SECRET)
)


def post(
    client: FlaskClient, body: str | bytes, headers: dict[str, str] | None = None
) -> TestResponse:
    """Send a body as JSON, with the secret unless other headers are given."""
    given = KEY if headers is None else headers
    return client.post(PATH, data=body, headers={"Content-Type": "application/json", **given})


def make_event(**fields: Any) -> str:
    """Return the event of a course's deletion."""
    event = {"eventname": r"\core\event\course_deleted", "objectid": 7, "timecreated": 1}
    return json.dumps({**event, **fields})


def outcome(response: TestResponse) -> Any:
    """Return the outcome of an accepted event."""
    assert response.status_code == 200, response.text
    assert list(response.json) == ["outcome"]
    return response.json["outcome"]


@pytest.mark.parametrize(
    ("plugin", "host"),
    [
        pytest.param("tool_trigger", SITE, id="tool_trigger"),
        pytest.param("local_webhooks", "moodle.example", id="local_webhooks"),
    ],
)
def test_deletion_is_accepted_as_sent(
    client: FlaskClient, store: Store, plugin: str, host: str
) -> None:
    sent = {"data": SENT[plugin]["body"], "headers": {**SENT[plugin]["headers"], **KEY}}

    first, second = client.post(PATH, **sent), client.post(PATH, **sent)

    assert (outcome(first), outcome(second)) == ("applied", "duplicate")
    (course,), (receipt,) = store.all(Course), store.all(MoodleEventReceipt)
    assert receipt.host == host
    assert (course.course_id, course.title) == ("7", "HOOK-1795336476")
    assert course.deleted_at is not None


def test_other_event_is_ignored(client: FlaskClient, store: Store) -> None:
    sent = SENT["local_webhooks_unrelated"]
    before = store.rows()

    response = client.post(PATH, data=sent["body"], headers=sent["headers"])

    assert outcome(response) == "ignored"
    assert store.rows() == before


def test_secret_can_be_a_bearer(client: FlaskClient) -> None:
    response = post(client, make_event(), {"Authorization": f"Bearer {INGEST_SECRET}"})

    assert outcome(response) == "applied"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(make_event(), {}, id="none"),
        pytest.param(make_event(), {"X-Api-Key": ""}, id="empty header"),
        pytest.param(make_event(), {"X-Api-Key": INGEST_SECRET[:-1]}, id="other header"),
        pytest.param(make_event(), {"X-Api-Key": "\xe4\xff"}, id="header not ASCII"),
        pytest.param(make_event(), {"Authorization": f"Basic {INGEST_SECRET}"}, id="Basic"),
        pytest.param(
            make_event(token=INGEST_SECRET), {"X-Api-Key": "planted"}, id="header before body"
        ),
        pytest.param(make_event(token=[INGEST_SECRET]), {}, id="list in the body"),
        pytest.param(f'["{INGEST_SECRET}"]', {}, id="array"),
        pytest.param(make_event(token=INGEST_SECRET)[:-1], {}, id="malformed body"),
    ],
)
def test_request_without_the_secret_is_refused(
    client: FlaskClient, store: Store, refused: Refused, body: str, headers: dict[str, str]
) -> None:
    before = store.rows()

    response = post(client, body, headers)

    problem = refused(response, 401, "ingest-refused")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="eassessment"'
    assert problem["detail"].endswith(("has no ingest secret", "ingest secret is wrong"))
    assert INGEST_SECRET not in response.text
    assert store.rows() == before


def test_events_are_refused_if_no_secret_is_set(refused: Refused) -> None:
    client = create_app(make_settings(ingest_secret="")).test_client()

    problem = refused(post(client, make_event(token=""), {"X-Api-Key": ""}), 404, "not-found")

    assert problem["detail"] == "Moodle events are not enabled here"
    assert "NOTIFIER_INGEST_SECRET" in problem["next_step"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        pytest.param("", 400, "request-malformed", id="empty"),
        pytest.param(f"[{make_event()}]", 400, "request-malformed", id="array"),
        pytest.param(f"{make_event()}x", 400, "request-malformed", id="not JSON"),
        pytest.param(make_event().encode("utf-16"), 400, "request-malformed", id="not UTF-8"),
        pytest.param(make_event(pad="x" * 70_000), 413, "body-too-large", id="too large"),
        pytest.param('{"event":true}', 422, "request-invalid", id="invalid field"),
    ],
)
def test_bad_input_is_refused(
    client: FlaskClient, store: Store, refused: Refused, body: Any, status: int, kind: str
) -> None:
    before = store.rows()

    response = post(client, body)

    refused(response, status, kind)
    assert store.rows() == before


def test_other_content_type_is_refused(client: FlaskClient, refused: Refused) -> None:
    response = client.post(PATH, data=make_event(), headers=KEY)

    refused(response, 415, "media-type-unsupported")


def test_secret_is_shown_nowhere(
    capsys: pytest.CaptureFixture[str], client: FlaskClient, store: Store
) -> None:
    responses = [
        post(client, make_event(token=INGEST_SECRET), {}),
        post(client, make_event(objectid="x", token=INGEST_SECRET), {}),
        post(client, make_event(), {"X-Api-Key": f"{INGEST_SECRET}x"}),
    ]

    assert [response.status_code for response in responses] == [200, 422, 401]
    shown = f"{store.rows()} {[response.text for response in responses]} {capsys.readouterr()}"
    assert "Moodle deletion accepted" in shown  # the log is captured
    assert INGEST_SECRET not in shown


def test_concurrent_duplicates_have_one_effect(app: Flask, store: Store) -> None:
    def send(_: int) -> Any:
        return outcome(post(app.test_client(), make_event()))

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(send, range(16)))

    assert outcomes == ["applied"] + ["duplicate"] * 15
    for model in (Course, Event, MoodleEventReceipt):
        assert len(store.all(model)) == 1
