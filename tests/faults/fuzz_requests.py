"""Random requests for the fuzzer: valid ones, and damaged ones."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from contract import signatures
from contract.events import EVENT_TYPES
from contract.signatures import Secret

SITE = "eassessment.example.ac.uk"
# The courses that exist; some requests name others.
COURSES = [f"CS{number}" for number in range(8)]
# A POST that only reads.
BATCH = "/api/v1/grades/batch"
INGEST_SECRET = "planted-ingest-secret"
_JSON = ("Content-Type", "application/json")


@dataclass(frozen=True)
class Request:
    """One request as a server passes it on; text is Latin-1."""

    service: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    query: str = ""


@dataclass
class Known:
    """What the sender knows: keys, the tokens that courses ever had, past events."""

    secret: Secret
    admin_key: str
    tokens: dict[str, list[str]] = field(default_factory=dict)
    events: list[tuple[str, bytes]] = field(default_factory=list)


WEIRD_TEXT = (
    "", " ", "..", "/", "a/b", "\x00", "\n", "\u202e", "\ud800", "\ufeff", "\U0001f393", "E\u0301",
    "x" * 256, "x" * 10_001, "'; DROP TABLE entries;--", "<script>", "=cmd()", "%s%n{0}", "null",
    "1", "true", "course.deleted", "token.regenerated", "endpoint.ping", SITE, "CS0",
    "2026-11-22T09:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999999-14:00",
    "2026-02-30T00:00:00Z", "https://elms.example/a", "http://ok.example\\@127.0.0.1/",
    "https://[::1/", "file:///etc/passwd", "7.5", "1e3", "NaN",
)  # fmt: skip
WEIRD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, -0.0, 1e308, 2**31, 2**53, 2**63, -(2**63) - 1, 10**40,
    [], {}, [[]], [None] * 50, {"": ""}, {"a": {"b": {"c": []}}},
)  # fmt: skip
WEIRD_RAW = (
    b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"0x1", b"01", b"+1", b".5", b"'x'", b"undefined",
    b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b"[" * 1000 + b"]" * 1000,
    b'{"a":' * 1000 + b"1" + b"}" * 1000, b"{}" * 2, b"/**/1", b"",
)  # fmt: skip
WEIRD_BYTES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[]", b"1", b"null", b'"x"', b"{", b"a=b",
    b"\x1f\x8b", b"[" * 60_000, b" " * 65_537, b"{" + b'"a":1,' * 2000 + b'"a":1}',
)  # fmt: skip
WEIRD_HEADERS = (
    "", " ", ",", "a,a", "\xff", "\x00", "x" * 8192, "v1,", "v1,AAAA", "v2," + "A" * 43 + "=",
    " ".join(["v1," + "A" * 43 + "="] * 80), "-1", "1e9", "nan", "9" * 20, "1700000000000",
    "Bearer", "Bearer Bearer x", "Basic eDp5", "bearer x", "msg_1", "*", '"1"', 'W/"1"', '"' * 50,
    "gzip", "chunked", "100-continue", "text/plain", "application/json;x", "xn--a", "[", "/x",
)  # fmt: skip
HEADERS = (
    "webhook-id", "webhook-timestamp", "webhook-signature", "Authorization", "Content-Type",
    "Content-Length", "If-None-Match", "If-Match", "Host", "Accept", "Cookie", "Range", "Expect",
    "Transfer-Encoding", "Content-Encoding", "X-Forwarded-For", "X-HTTP-Method-Override", "Origin",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
DAMAGED_PATHS = (
    "{}/", "/{}", "{}\x00", "{}\xff", "/x/..{}", "{}/..", "{};x=1", "{}%2F", "{}{}", "", "*",
    "{}\xe2\x80\xae", "{}" + "x" * 300,
)  # fmt: skip
QUERIES = (
    "", "limit=1", "limit=0", "limit=x", "limit=1&limit=2", "after=%00", "after=%FF", "after=CS3",
    "status=dead", "status=x", "endpoint_id=1", "endpoint_id=99999999999999999999", "before=5",
    "since=2026-11-22T09:00:00Z", "until=now", "event_type=course.deleted", "course_id=CS0", "x=1",
    "access_token=x", "=", "&&&", "%", "%zz", "a" * 4000, "limit=" + "9" * 400, "limit[]=1",
)  # fmt: skip


def draw(chance: random.Random, known: Known) -> Request:
    """Return a request: a third of them valid, the others damaged once or more."""
    request = chance.choice((_webhook, _webhook, _grades, _batch, _admin, _moodle))(chance, known)
    if chance.random() < 0.35:
        return request
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        request = _damaged(chance, request)
    return request


def _webhook(chance: random.Random, known: Known) -> Request:
    """Return a signed webhook, under a new or a used id, or an earlier event again."""
    event = {
        "type": chance.choice((*EVENT_TYPES, "endpoint.ping")),
        "timestamp": f"2026-11-22T0{chance.randrange(10)}:00:00Z",
        "data": {
            "source": SITE if chance.random() < 0.95 else "other.example",
            "course_id": chance.choice(COURSES),
            "course_version": chance.randrange(1, 9),
            "token_id": chance.choice(("k7Qx2mPa", "aaaaaaaa", "bbbbbbbb")),
        },
    }
    webhook_id, body = f"msg_{chance.randrange(3000)}", _damaged_json(chance, event)
    if known.events and chance.random() < 0.3:
        webhook_id, past_body = chance.choice(known.events)
        body = chance.choice((past_body, past_body, body))
    known.events.append((webhook_id, body))
    headers = signatures.sign([known.secret], webhook_id, body, now=datetime.now(UTC))
    return Request("receiver", "POST", f"/webhooks/{SITE}", (*headers.items(), _JSON), body)


def _course_and_token(chance: random.Random, known: Known) -> tuple[str, str]:
    course_id = chance.choice([*COURSES, "NONE"])
    bearer = course_id if chance.random() < 0.7 else chance.choice(COURSES)
    return course_id, chance.choice(known.tokens.get(bearer, ["x"]))


def _etag(chance: random.Random) -> str:
    return chance.choice(("*", '"1-1-0"', '"2-1-1"', "x"))


def _grades(chance: random.Random, known: Known) -> Request:
    course_id, token = _course_and_token(chance, known)
    headers = [("Authorization", f"Bearer {token}")]
    if chance.random() < 0.3:
        headers.append(("If-None-Match", _etag(chance)))
    return Request("notifier", "GET", f"/api/v1/courses/{course_id}/grades", tuple(headers))


def _batch(chance: random.Random, known: Known) -> Request:
    queries = []
    for _ in range(chance.choice((1, 2, 5, 101))):
        course_id, token = _course_and_token(chance, known)
        queries.append({"course_id": course_id, "token": token})
        if chance.random() < 0.3:
            queries[-1]["if_none_match"] = _etag(chance)
        if chance.random() < 0.3:
            queries[-1]["if_modified_since"] = f"2026-11-2{chance.randrange(10)}T09:00:00Z"
    return Request("notifier", "POST", BATCH, (_JSON,), _damaged_json(chance, {"courses": queries}))


def _admin(chance: random.Random, known: Known) -> Request:
    course_id = chance.choice([*COURSES, *(f"NEW{number}" for number in range(40))])
    score = {"userId": "ada", "scoreMaximum": "10", "timestamp": "2026-11-22T09:00:00Z"}
    score["scoreGiven"] = chance.choice(("0", "7.5", "10"))
    routes: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/courses", {"course_id": course_id, "title": chance.choice(WEIRD_TEXT)}),
        ("GET", "/courses", None),
        ("GET", f"/courses/{course_id}", None),
        ("DELETE", f"/courses/{course_id}", None),
        ("POST", f"/courses/{course_id}/token", None),
        ("PUT", f"/courses/{course_id}/grades", {"scores": [score]}),
        ("POST", "/endpoints", {"url": f"https://elms.example/{chance.randrange(4)}"}),
        ("GET", "/endpoints", None),
        ("GET", "/deliveries", None),
        ("POST", "/deliveries/replay", {"ids": [chance.randrange(1, 60)], "dry_run": False}),
        ("POST", "/deliveries/replay", {"filter": {"course_id": course_id}, "dry_run": True}),
    )
    method, path, document = chance.choice(routes)
    body = b"" if document is None else _damaged_json(chance, document)
    headers = (("Authorization", f"Bearer {known.admin_key}"), _JSON)
    query = chance.choice(QUERIES) if method == "GET" and chance.random() < 0.5 else ""
    return Request("notifier", method, f"/api/v1/admin{path}", headers, body, query)


def _moodle(chance: random.Random, known: Known) -> Request:
    if chance.random() < 0.3:
        course_id = chance.choice(("1", "2", "CS0", "M/1"))
        document: dict[str, Any] = chance.choice(({}, {"token": "0" * 32}, {"token_id": "m1"}))
        path, key = f"courses/{course_id}/token-regenerated", known.admin_key
        headers = ("Authorization", f"Bearer {key}"), _JSON
    else:
        document = {
            "eventname": chance.choice(
                (r"\core\event\course_deleted", r"\core\event\course_created")
            ),
            "objectid": chance.choice((1, "2", chance.randrange(1, 60))),
            "timecreated": chance.choice((1795336477, 1795336478)),
            "other": {"shortname": chance.choice(WEIRD_TEXT)},
        }
        path, headers = "ingest/moodle", (("X-Api-Key", INGEST_SECRET), _JSON)
    return Request("notifier", "POST", f"/api/v1/{path}", headers, _damaged_json(chance, document))


def _damaged_json(chance: random.Random, document: Any) -> bytes:
    """Return a document as JSON; half of the time something in it is replaced."""
    damage = chance.random()
    if damage < 0.5:
        return json.dumps(document).encode()
    if damage < 0.55:
        return chance.choice(WEIRD_BYTES)
    if damage < 0.65:
        name = chance.choice((b'"x":', b'"type":', b'"course_id":', b'"data":'))
        return json.dumps(document).encode()[:-1] + b"," + name + chance.choice(WEIRD_RAW) + b"}"
    changed = json.loads(json.dumps(document))
    for _ in range(chance.choice((1, 1, 2))):
        holder, key = chance.choice([*_places(changed)] or [({"": 0}, "")])
        match chance.randrange(4):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[chance.choice(WEIRD_TEXT)] = chance.choice(WEIRD_VALUES)
            case 2:
                holder[key] = chance.choice(WEIRD_TEXT)
            case _:
                holder[key] = json.loads(json.dumps(chance.choice(WEIRD_VALUES)))
    return json.dumps(changed).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each object and array of a document with each of its keys."""
    keys = range(len(document)) if isinstance(document, list) else document
    if isinstance(document, dict | list):
        for key in keys:
            yield document, key
            yield from _places(document[key])


def _damaged(chance: random.Random, request: Request) -> Request:
    """Return the request with one damage."""
    damages: tuple[Callable[[], Request], ...] = (
        lambda: _with_header(chance, request, chance.choice(HEADERS)),
        lambda: replace(request, headers=(*request.headers, *request.headers[:1])),
        lambda: replace(
            request, headers=tuple(pair for pair in request.headers if chance.random() < 0.7)
        ),
        lambda: replace(request, body=_flipped(chance, request.body)),
        lambda: replace(request, body=request.body[: chance.randrange(len(request.body) + 1)]),
        lambda: replace(request, method=chance.choice(METHODS)),
        lambda: replace(request, path=chance.choice(DAMAGED_PATHS).replace("{}", request.path)),
        lambda: replace(request, path=request.path[: len(request.path) // 2]),
        lambda: replace(request, query=chance.choice(QUERIES)),
    )
    return chance.choice(damages)()


def _with_header(chance: random.Random, request: Request, name: str) -> Request:
    """Return the request with another value of a header, strange or with one bit flipped."""
    others = tuple(pair for pair in request.headers if pair[0].lower() != name.lower())
    value = chance.choice(WEIRD_HEADERS)
    if chance.random() < 0.3:
        before = dict(request.headers).get(name, "").encode("latin-1")
        value = _flipped(chance, before).decode("latin-1")
    return replace(request, headers=(*others, (name, value)))


def _flipped(chance: random.Random, data: bytes) -> bytes:
    """Return bytes with one bit flipped; some bytes if there are none."""
    if not data:
        return chance.choice(WEIRD_BYTES[1:8])
    place = chance.randrange(len(data))
    changed = bytes([data[place] ^ 1 << chance.randrange(8)])
    return data[:place] + changed + data[place + 1 :]
