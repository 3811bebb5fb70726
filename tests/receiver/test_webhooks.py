"""The door: what is signed is heard once, everything else is a problem and changes nothing."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from freezegun import freeze_time
from standardwebhooks import Webhook
from werkzeug.test import TestResponse

from contract import signature
from contract.problems import ProblemType
from contract.signature import Secret
from receiver.models import Entry, Source, Taken
from receiver.webhooks import MAX_BODY_BYTES

SITE = "eassessment.example.ac.uk"
Rows = Callable[[type[Any]], list[Any]]


@pytest.fixture
def secret() -> Secret:
    """The secret that the source signs with."""
    return Secret.generate()


@pytest.fixture
def source(make_source: Callable[..., Source], secret: Secret) -> Source:
    """The source whose door it is."""
    return make_source(secrets=(secret,))


@pytest.fixture
def away(make_app_on: Callable[..., Flask], tmp_path: Path) -> FlaskClient:
    """The door of an ELMS whose database is away: a query there would be a 503."""
    return make_app_on(f"sqlite:///{tmp_path}/none/receiver.db").test_client()


def event(**overrides: Any) -> bytes:
    """Return the body that CS101 was deleted, but for the overrides in its data."""
    data = {"source": SITE, "course_id": "CS101", "course_version": 4, **overrides}
    document = {"type": "course.deleted", "timestamp": "2026-11-22T08:59:59.5Z", "data": data}
    return json.dumps(document).encode()


@pytest.fixture
def post(client: FlaskClient, source: Source, secret: Secret) -> Callable[..., TestResponse]:
    """Return what posts a body that was signed just now."""

    def send(
        body: bytes | None = None,
        *,
        webhook_id: str = "msg_1",
        path: str = f"/webhooks/{SITE}",
        signed_by: Secret | None = None,
        **options: Any,
    ) -> TestResponse:
        raw = event() if body is None else body
        signed = signature.sign([signed_by or secret], webhook_id, raw, now=datetime.now(UTC))
        options.setdefault("content_type", "application/json")
        return client.post(path, data=raw, headers=signed, **options)

    return send


def refused(response: TestResponse, problem: ProblemType, status: int) -> str:
    """Assert that the answer is this problem, actionable; return its detail."""
    document = response.get_json()
    assert (response.status_code, document["type"]) == (status, f"urn:problem-type:{problem}")
    assert response.content_type == "application/problem+json"
    assert document["next_step"]
    return str(document["detail"])


def test_a_signed_event_is_applied(post: Callable[..., TestResponse], rows: Rows) -> None:
    """What the source signs is understood, taken in and answered after the commit."""
    response = post()

    assert (response.status_code, response.get_json()) == (200, {"outcome": "applied"})
    assert (rows(Entry)[0].deleted_version, rows(Taken)[0].webhook_id) == (4, "msg_1")


def test_the_published_library_is_understood(
    client: FlaskClient, source: Source, secret: Secret
) -> None:
    """What `standardwebhooks` signs is verified here."""
    body, now = event(), datetime.now(UTC)
    signed = Webhook(secret.reveal()).sign("msg_1", now, body.decode())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signed,
    }

    response = client.post(
        f"/webhooks/{SITE}", data=body, headers=headers, content_type="application/json"
    )

    assert response.get_json() == {"outcome": "applied"}


def test_outcomes_are_told(post: Callable[..., TestResponse]) -> None:
    """Applied, duplicate, stale, ignored: each is a 200 that says which."""
    ping = b'{"type":"endpoint.ping","timestamp":"x","data":{}}'

    answers = [
        post(event(course_version=5)),
        post(event(course_version=5)),
        post(event(course_version=4), webhook_id="msg_2"),
        post(ping, webhook_id="msg_3"),
    ]

    assert [answer.get_json()["outcome"] for answer in answers] == [
        "applied",
        "duplicate",
        "stale",
        "ignored",
    ]


def test_both_secrets_count_while_one_rotates(
    post: Callable[..., TestResponse],
    make_source: Callable[..., Source],
) -> None:
    """A source with two secrets is heard whichever it signs with (F22)."""
    old, new = Secret.generate(), Secret.generate()
    make_source("rotating", secrets=(old, new))

    answers = [
        post(
            event(source="rotating"),
            webhook_id=f"m{number}",
            path="/webhooks/rotating",
            signed_by=key,
        )
        for number, key in enumerate((old, new))
    ]

    assert [answer.status_code for answer in answers] == [200, 200]


EVERY_HEADER = ("webhook-id", "webhook-timestamp", "webhook-signature")
OUT_OF_ORDER = [
    pytest.param(name, value, id=f"{name} {words}")
    for words, value, names in [
        ("missing", None, EVERY_HEADER),
        ("empty", "", EVERY_HEADER),
        ("of 8 kB", "x" * 8192, EVERY_HEADER),
        ("not ASCII", "ä", EVERY_HEADER),
        ("doubled, joined by a comma", "v1,a,v1,b", EVERY_HEADER),
        ("no number", "nan", ["webhook-timestamp"]),
        ("in powers", "9e99", ["webhook-timestamp"]),
        ("negative", "-1", ["webhook-timestamp"]),
        ("a float", "1763802000.0", ["webhook-timestamp"]),
        ("with a space", " 1763802000 1", ["webhook-timestamp"]),
        ("of 5,000 digits", "1" * 5000, ["webhook-timestamp"]),
        ("in milliseconds", "1763802000000", ["webhook-timestamp"]),
        ("garbage", "garbage", ["webhook-signature"]),
        ("without base64", "v1,", ["webhook-signature"]),
        ("with bad base64", "v1,%%%", ["webhook-signature"]),
        ("with two spaces", "v1,AAAA  v1,AAAA", ["webhook-signature"]),
        ("ten thousand times", " ".join(["v1,AAAA"] * 10_000), ["webhook-signature"]),
    ]
    for name in names
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_ORDER)
def test_headers_that_are_not_in_order_are_401(
    away: FlaskClient, secret: Secret, name: str, value: str | None
) -> None:
    """B1 to B3: whatever stands in a header is a 401 that says what is wrong, without a query."""
    headers = signature.sign([secret], "msg_1", b"not json", now=datetime.now(UTC))
    headers.pop(name)
    if value is not None:
        headers[name] = value

    response = away.post(f"/webhooks/{SITE}", data=b"not json", headers=headers)

    refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert "WWW-Authenticate" in response.headers


@pytest.mark.parametrize(
    "listed", [pytest.param("v2,AAAA", id="another version"), pytest.param("v1,AAA", id="padding")]
)
def test_signatures_that_are_none_of_ours_are_401(
    client: FlaskClient, secret: Secret, source: Source, listed: str
) -> None:
    """B2: headers in order, but with no signature that could match."""
    signed = signature.sign([secret], "msg_1", event(), now=datetime.now(UTC))

    response = client.post(
        f"/webhooks/{SITE}", data=event(), headers={**signed, "webhook-signature": listed}
    )

    assert "no signature matches" in refused(response, ProblemType.SIGNATURE_REFUSED, 401)


def test_an_unsigned_body_is_401_however_large(away: FlaskClient) -> None:
    """What is not signed is neither read nor looked up."""
    response = away.post(f"/webhooks/{SITE}", data=b"\xff" * (MAX_BODY_BYTES + 1))

    detail = refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert detail == "the header webhook-id is missing"


@pytest.mark.parametrize(
    ("seconds", "status"),
    [
        pytest.param(299, 200, id="299 s behind"),
        pytest.param(-299, 200, id="299 s ahead"),
        pytest.param(301, 401, id="301 s behind"),
        pytest.param(-302, 401, id="302 s ahead"),
    ],
)
def test_clocks_may_differ_by_five_minutes(
    client: FlaskClient, secret: Secret, source: Source, now: datetime, seconds: int, status: int
) -> None:
    """F18: inside the tolerance it is heard, outside it is a 401, on either side."""
    signed = signature.sign([secret], "msg_1", event(), now=now)

    with freeze_time(now + timedelta(seconds=seconds)):
        response = client.post(
            f"/webhooks/{SITE}", data=event(), headers=signed, content_type="application/json"
        )

    assert response.status_code == status


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"body": event(course_version=5)}, id="body"),
        pytest.param({"headers": {"webhook-id": "msg_2"}}, id="id"),
        pytest.param({"seconds": 1}, id="timestamp"),
    ],
)
def test_a_changed_request_is_401_and_writes_nothing(
    client: FlaskClient,
    secret: Secret,
    source: Source,
    rows: Rows,
    change: dict[str, Any],
) -> None:
    """F21: what was signed is what counts, to the bit."""
    signed = signature.sign([secret], "msg_1", event(), now=datetime.now(UTC))
    moved = int(signed["webhook-timestamp"]) + change.get("seconds", 0)

    response = client.post(
        f"/webhooks/{SITE}",
        data=change.get("body", event()),
        headers={**signed, "webhook-timestamp": str(moved), **change.get("headers", {})},
        content_type="application/json",
    )

    assert "no signature matches" in refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert (rows(Taken), rows(Entry)) == ([], [])


def test_another_sites_secret_is_401(
    post: Callable[..., TestResponse], make_source: Callable[..., Source]
) -> None:
    """Each door tries its own source's secrets only."""
    other = Secret.generate()
    make_source("other.example", secrets=(other,))

    response = post(signed_by=other)

    refused(response, ProblemType.SIGNATURE_REFUSED, 401)


def test_another_sites_event_is_403(post: Callable[..., TestResponse], rows: Rows) -> None:
    """B10: a source cannot speak for another, however well it signs."""
    response = post(event(source="other.example"))

    assert "is the door of" in refused(response, ProblemType.SOURCE_MISMATCH, 403)
    assert rows(Taken) == []


@pytest.mark.parametrize("name", ["nobody", "x" * 101, "no name"])
def test_an_unknown_door_is_not_told_from_a_known_one(
    post: Callable[..., TestResponse], name: str
) -> None:
    """Without a secret nobody learns which sources there are: the answers are the same."""
    known, unknown = post(signed_by=Secret.generate()), post(path=f"/webhooks/{name}")

    for response in (known, unknown):
        refused(response, ProblemType.SIGNATURE_REFUSED, 401)
    assert {**known.get_json(), "request_id": None} == {**unknown.get_json(), "request_id": None}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no json", id="no JSON"),
        pytest.param(b"1", id="a scalar"),
        pytest.param(b"[]", id="an array"),
        pytest.param(event() + b"x", id="trailing junk"),
        pytest.param(b"\xef\xbb\xbf" + event(), id="BOM"),
        pytest.param(event().decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"type":"\xff"}', id="not UTF-8"),
        pytest.param(b"[" * 1000 + b"]" * 1000, id="nested 1,000 deep"),
        pytest.param(b'{"type":NaN}', id="NaN"),
        pytest.param(b'{"type":' + b"9" * 5000 + b"}", id="5,000 digits"),
        pytest.param(b'{"type":"a","type":"b"}', id="a key twice"),
        pytest.param(b'{"type":"\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"type":"\\u0000"}', id="NUL"),
    ],
)
def test_bodies_that_cannot_be_read_are_400(
    post: Callable[..., TestResponse], rows: Rows, body: bytes
) -> None:
    """B4 and B6: a signed body that is no JSON object is refused and not taken in."""
    response = post(body)

    refused(response, ProblemType.REQUEST_MALFORMED, 400)
    assert rows(Taken) == []


@pytest.mark.parametrize(
    ("overrides", "pointer"),
    [
        pytest.param({"course_version": True}, "/data/course_version", id="true for a number"),
        pytest.param({"course_version": 0}, "/data/course_version", id="version 0"),
        pytest.param({"course_version": -1}, "/data/course_version", id="version -1"),
        pytest.param({"course_version": 2**53}, "/data/course_version", id="version 2^53"),
        pytest.param({"course_id": 7}, "/data/course_id", id="a number for an id"),
        pytest.param({"course_id": ""}, "/data/course_id", id="empty id"),
        pytest.param({"source": None}, "/data/source", id="null"),
    ],
)
def test_wrong_fields_are_422_with_a_pointer(
    post: Callable[..., TestResponse], rows: Rows, overrides: dict[str, Any], pointer: str
) -> None:
    """B9: the answer points to the field."""
    response = post(event(**overrides))

    refused(response, ProblemType.REQUEST_INVALID, 422)
    assert response.get_json()["errors"][0]["pointer"] == pointer
    assert rows(Taken) == []


def test_extra_fields_are_accepted(post: Callable[..., TestResponse]) -> None:
    """B8: a newer sender may say more than is known here."""
    response = post(event(colour="blue"))

    assert response.get_json() == {"outcome": "applied"}


def test_strange_course_ids_are_stored_as_they_are(
    post: Callable[..., TestResponse], rows: Rows
) -> None:
    """B7: course ids are opaque."""
    course_id = "Ünï/'; DROP TABLE entries;--<script>=cmd()"

    post(event(course_id=course_id))

    assert rows(Entry)[0].course_id == course_id


def test_an_id_used_twice_is_409(post: Callable[..., TestResponse], rows: Rows) -> None:
    """B11: the first body of an id is kept."""
    post(event(course_version=4))

    response = post(event(course_version=5))

    refused(response, ProblemType.WEBHOOK_ID_REUSED, 409)
    assert rows(Entry)[0].deleted_version == 4


def test_another_content_type_is_415(post: Callable[..., TestResponse], rows: Rows) -> None:
    """B12: an event is JSON and says so."""
    response = post(content_type="application/x-www-form-urlencoded")

    refused(response, ProblemType.MEDIA_TYPE_UNSUPPORTED, 415)
    assert rows(Taken) == []


def test_a_large_body_is_413(post: Callable[..., TestResponse], rows: Rows) -> None:
    """B5: 64 kB are enough for every event."""
    response = post(b" " * (MAX_BODY_BYTES + 1))

    refused(response, ProblemType.BODY_TOO_LARGE, 413)
    assert rows(Taken) == []


@pytest.mark.parametrize(
    ("method", "path", "problem", "status"),
    [
        pytest.param("GET", f"/webhooks/{SITE}", ProblemType.METHOD_NOT_ALLOWED, 405, id="method"),
        pytest.param("POST", f"/webhooks/{SITE}/", ProblemType.NOT_FOUND, 404, id="slash"),
        pytest.param("POST", f"//webhooks/{SITE}", ProblemType.NOT_FOUND, 404, id="two slashes"),
        pytest.param("POST", "/", ProblemType.NOT_FOUND, 404, id="path"),
    ],
)
def test_nothing_is_redirected(
    away: FlaskClient, method: str, path: str, problem: ProblemType, status: int
) -> None:
    """B12: a wrong method or path is told, never forwarded."""
    refused(away.open(path, method=method), problem, status)


def test_the_same_event_a_hundred_times_at_once_has_one_effect(
    app: Flask, source: Source, secret: Secret, rows: Rows
) -> None:
    """F19: one is applied, 99 are duplicates, none is a 500."""
    signed = signature.sign([secret], "msg_1", event(), now=datetime.now(UTC))

    def send(_: int) -> str:
        response = app.test_client().post(
            f"/webhooks/{SITE}", data=event(), headers=signed, content_type="application/json"
        )
        return str(response.get_json().get("outcome", response.get_json()))

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(send, range(100)))

    assert (outcomes.count("applied"), outcomes.count("duplicate")) == (1, 99)
    assert len(rows(Taken)) == 1


def test_a_database_that_is_away_is_503(away: FlaskClient, secret: Secret) -> None:
    """The sender is asked to come again, and told nothing of the database (F10)."""
    signed = signature.sign([secret], "msg_1", event(), now=datetime.now(UTC))

    response = away.post(
        f"/webhooks/{SITE}", data=event(), headers=signed, content_type="application/json"
    )

    refused(response, ProblemType.DATABASE_UNAVAILABLE, 503)
    assert response.headers["Retry-After"] == "5"


def test_a_lost_encryption_key_is_500_without_a_trace(
    make_app: Callable[..., Flask], source: Source, secret: Secret
) -> None:
    """Secrets that cannot be opened are ELMS's trouble: the sender retries, and sees no more."""
    other = make_app(encryption_keys="YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=")
    signed = signature.sign([secret], "msg_1", event(), now=datetime.now(UTC))

    response = other.test_client().post(
        f"/webhooks/{SITE}", data=event(), headers=signed, content_type="application/json"
    )

    refused(response, ProblemType.INTERNAL_ERROR, 500)


def test_every_route_states_its_authentication(away: FlaskClient) -> None:
    """No view can be reached without someone having said who may."""
    guards = {
        rule.rule: getattr(away.application.view_functions[rule.endpoint], "guard", None)
        for rule in away.application.url_map.iter_rules()
    }

    assert guards == {"/webhooks/<source>": "webhook signature"}
