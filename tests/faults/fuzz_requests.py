"""Random requests for the fuzzer: valid ones, and damaged ones."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from contract import signatures
from contract.signatures import Secret

SITE = "eassessment.example.ac.uk"
# The courses that exist; some requests name others.
COURSES = [f"CS{number}" for number in range(8)]
# A POST that only reads.
BATCH = "/api/v1/grades/batch"
INGEST_SECRET = "planted-ingest-secret"
_KIND = "application/json"


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
    "", " ", ".", "..", "/", "a/b", "\x00", "\n", "\u202e", "\ud800", "\udfff\ud800", "\ufeff",
    "\U0001f393", "E\u0301", "x" * 256, "x" * 10_001, "'; DROP TABLE entries;--", "<script>",
    "=cmd()", "%s%n{0}", "null", "1", "-1", "true", "course.deleted", "token.regenerated",
    "endpoint.ping", SITE, "CS0", "2026-11-22T09:00:00Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999999-14:00", "2026-02-30T00:00:00Z", "https://elms.example/a",
    "http://ok.example\\@127.0.0.1/", "https://[::1/", "file:///etc/passwd", "7.5", "1e3", "NaN",
)  # fmt: skip
WEIRD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 4, 1.5, -0.0, 1e308, 2**31 - 1, 2**31, 2**53 - 1, 2**53, 2**63,
    -(2**63) - 1, 10**40, [], {}, [[]], [None] * 50, {"": ""}, {"a": {"b": {"c": []}}},
)  # fmt: skip
WEIRD_RAW = (
    b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"0x1", b"01", b"+1", b".5", b"1.", b"'x'",
    b"undefined", b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"',
    b"[" * 1000 + b"]" * 1000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"{}" * 2, b"/**/1", b"",
)  # fmt: skip
WEIRD_BYTES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[]", b"1", b"null", b'"x"', b"{", b"a=b",
    b"\x1f\x8b",
    b"[" * 60_000, b" " * 65_537, b"{" + b'"a":1,' * 2000 + b'"a":1}',
)  # fmt: skip
WEIRD_HEADERS = (
    "", " ", ",", "a,a", "\xff", "\x00", "x" * 8192, "v1,", "v1,AAAA", "v2," + "A" * 43 + "=",
    " ".join(["v1," + "A" * 43 + "="] * 80), "-1", "1e9", "nan", "9" * 20, "1700000000000",
    "Bearer", "Bearer ", "Bearer Bearer x", "Basic eDp5", "bearer x", "\t", "msg_1", "*", '"1"',
    'W/"1"', '"' * 50, "gzip", "chunked", "100-continue", "text/plain", "application/json;x",
    "multipart/form-data; boundary=x", "xn--a", "[", "..", "a" * 300, "/x", "https",
)  # fmt: skip
HEADERS = (
    "webhook-id", "webhook-timestamp", "webhook-signature", "Authorization", "Content-Type",
    "Content-Length", "If-None-Match", "If-Match", "Host", "Accept", "Cookie", "Range", "Expect",
    "Transfer-Encoding", "Content-Encoding", "X-Forwarded-For", "X-HTTP-Method-Override", "Origin",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
DAMAGED_PATHS: tuple[Callable[[str], str], ...] = (
    lambda path: path + "/",
    lambda path: "/" + path,
    lambda path: path.replace("/", "//", 2),
    lambda path: path + "\x00",
    lambda path: path + "\xff",
    lambda path: path.encode("latin-1").upper().decode("latin-1"),  # of ASCII alone
    lambda path: "/x/.." + path,
    lambda path: path + "/..",
    lambda path: path.removeprefix("/"),
    lambda path: path + ";x=1",
    lambda path: path + "%2F",
    lambda path: path[: len(path) // 2],
    lambda path: path * 2,
    lambda path: "",
    lambda path: "*",
    lambda path: path + "\xe2\x80\xae",
    lambda path: path + "x" * 300,
)
QUERIES = (
    "", "limit=1", "limit=0", "limit=x", "limit=1&limit=2", "after=%00", "after=%FF", "after=CS3",
    "status=dead", "status=x", "endpoint_id=1", "endpoint_id=99999999999999999999", "before=5",
    "since=2026-11-22T09:00:00Z", "until=now", "event_type=course.deleted", "course_id=CS0", "x=1",
    "access_token=x", "=", "&&&", "%", "%zz", "a" * 4000, "limit=" + "9" * 400, "limit[]=1",
)  # fmt: skip


def draw(chance: random.Random, known: Known) -> Request:
    """Return a request: a third of them valid, the others damaged once or more."""
    made = chance.choice((_webhook, _webhook, _grades, _batch, _admin, _moodle))(chance, known)
    if chance.random() < 0.35:
        return made
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        made = chance.choice(DAMAGES)(chance, made)
    return made


def signed(chance: random.Random, known: Known, body: bytes) -> Request:
    """Return a signed webhook, under a new or a used id, or an earlier event again."""
    webhook_id = f"msg_{chance.randrange(3000)}"
    if known.events and chance.random() < 0.3:
        past_id, past_body = chance.choice(known.events)
        webhook_id, body = past_id, chance.choice((past_body, past_body, body))
    known.events.append((webhook_id, body))
    now = datetime.now(UTC)
    headers = signatures.sign([known.secret], webhook_id, body, now=now)
    kind = (("Content-Type", _KIND),)
    return Request("receiver", "POST", f"/webhooks/{SITE}", (*headers.items(), *kind), body)


def _webhook(chance: random.Random, known: Known) -> Request:
    event: dict[str, Any] = {
        "type": chance.choice(("course.deleted", "token.regenerated", "endpoint.ping")),
        "timestamp": f"2026-11-22T0{chance.randrange(10)}:00:00Z",
        "data": {
            "source": SITE if chance.random() < 0.95 else "other.example",
            "course_id": chance.choice(COURSES),
            "course_version": chance.randrange(1, 9),
            "token_id": chance.choice(("k7Qx2mPa", "aaaaaaaa", "bbbbbbbb")),
        },
    }
    return signed(chance, known, _damaged_json(chance, event))


def _grades(chance: random.Random, known: Known) -> Request:
    course_id = chance.choice([*COURSES, "NONE"])
    bearer = course_id if chance.random() < 0.7 else chance.choice(COURSES)
    borne = chance.choice(known.tokens.get(bearer, ["x"]))
    headers = [("Authorization", f"Bearer {borne}")]
    if chance.random() < 0.3:
        headers.append(("If-None-Match", chance.choice(("*", '"1-1-0"', '"2-1-1"', "x"))))
    return Request("notifier", "GET", f"/api/v1/courses/{course_id}/grades", tuple(headers))


def _batch(chance: random.Random, known: Known) -> Request:
    questions = []
    for _ in range(chance.choice((1, 2, 5, 101))):
        course_id = chance.choice([*COURSES, "NONE"])
        bearer = course_id if chance.random() < 0.7 else chance.choice(COURSES)
        question = {"course_id": course_id, "token": chance.choice(known.tokens.get(bearer, ["x"]))}
        if chance.random() < 0.3:
            question["if_none_match"] = chance.choice(("*", '"1-1-0"', '"2-1-1"', "x"))
        if chance.random() < 0.3:
            question["if_modified_since"] = f"2026-11-2{chance.randrange(10)}T09:00:00Z"
        questions.append(question)
    body = _damaged_json(chance, {"courses": questions})
    return Request("notifier", "POST", BATCH, (("Content-Type", _KIND),), body)


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
    headers = (("Authorization", f"Bearer {known.admin_key}"), ("Content-Type", _KIND))
    query = chance.choice(QUERIES) if method == "GET" and chance.random() < 0.5 else ""
    return Request("notifier", method, f"/api/v1/admin{path}", headers, body, query)


def _moodle(chance: random.Random, known: Known) -> Request:
    if chance.random() < 0.3:
        course_id = chance.choice(("1", "2", "CS0", "M/1"))
        document: dict[str, Any] = chance.choice(({}, {"token": "0" * 32}, {"token_id": "m1"}))
        headers = [("Authorization", f"Bearer {known.admin_key}"), ("Content-Type", _KIND)]
        path, body = f"/courses/{course_id}/token-regenerated", _damaged_json(chance, document)
        return Request("notifier", "POST", f"/api/v1{path}", tuple(headers), body)
    event: dict[str, Any] = {
        "eventname": chance.choice((r"\core\event\course_deleted", r"\core\event\course_created")),
        "objectid": chance.choice((1, "2", chance.randrange(1, 60))),
        "timecreated": chance.choice((1795336477, "1795336478")),
        "other": {"shortname": chance.choice(WEIRD_TEXT)},
    }
    headers = [("Content-Type", _KIND)]
    if chance.random() < 0.5:
        event["token"] = INGEST_SECRET
    else:
        headers.append(("X-Api-Key", INGEST_SECRET))
    body = _damaged_json(chance, event)
    return Request("notifier", "POST", "/api/v1/ingest/moodle", tuple(headers), body)


def _damaged_json(chance: random.Random, document: Any) -> bytes:
    """Return a document as JSON; half of the time something in it is replaced."""
    damage = chance.random()
    if damage < 0.5:
        return json.dumps(document).encode()
    if damage < 0.55:
        return chance.choice(WEIRD_BYTES)
    if damage < 0.65:
        return _with_raw(chance, document)
    changed = json.loads(json.dumps(document))
    for _ in range(chance.choice((1, 1, 2))):
        _change_somewhere(chance, changed)
    return json.dumps(changed).encode()


def _with_raw(chance: random.Random, document: Any) -> bytes:
    whole = json.dumps(document).encode()
    name = chance.choice((b'"x":', b'"type":', b'"course_id":', b'"data":'))
    return whole[:-1] + b"," + name + chance.choice(WEIRD_RAW) + b"}"


def _change_somewhere(chance: random.Random, document: Any) -> None:
    places = _places(document)
    holder, key = chance.choice(places)
    match chance.randrange(4):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(WEIRD_TEXT)] = chance.choice(WEIRD_VALUES)
        case 2:
            holder[key] = chance.choice(WEIRD_TEXT)
        case _:
            holder[key] = json.loads(json.dumps(chance.choice(WEIRD_VALUES)))


def _places(document: Any) -> list[tuple[Any, Any]]:
    if isinstance(document, Mapping):
        keys: Sequence[Any] = list(document)
    else:
        keys = range(len(document)) if isinstance(document, list) else ()
    below = [place for key in keys for place in _places(document[key])]
    return [*((document, key) for key in keys), *below] or [({"": 0}, "")]


def _other_header(chance: random.Random, made: Request) -> Request:
    name = chance.choice(HEADERS)
    kept = tuple(pair for pair in made.headers if pair[0].lower() != name.lower())
    return replace(made, headers=(*kept, (name, chance.choice(WEIRD_HEADERS))))


def _doubled_header(chance: random.Random, made: Request) -> Request:
    if not made.headers:
        return made
    return replace(made, headers=(*made.headers, chance.choice(made.headers)))


def _fewer_headers(chance: random.Random, made: Request) -> Request:
    return replace(made, headers=tuple(pair for pair in made.headers if chance.random() < 0.7))


def _flipped(chance: random.Random, made: Request) -> Request:
    if not made.body:
        return replace(made, body=chance.choice(WEIRD_BYTES))
    place = chance.randrange(len(made.body))
    changed = bytes([made.body[place] ^ 1 << chance.randrange(8)])
    return replace(made, body=made.body[:place] + changed + made.body[place + 1 :])


def _cut(chance: random.Random, made: Request) -> Request:
    return replace(made, body=made.body[: chance.randrange(len(made.body) + 1)])


def _flipped_header(chance: random.Random, made: Request) -> Request:
    if not made.headers:
        return made
    name, value = chance.choice(made.headers)
    if not value:
        return made
    place = chance.randrange(len(value))
    changed = chr(ord(value[place]) ^ 1 << chance.randrange(8))
    mutated = value[:place] + changed + value[place + 1 :]
    others = tuple(pair for pair in made.headers if pair[0] != name)
    return replace(made, headers=(*others, (name, mutated)))


def _other_method(chance: random.Random, made: Request) -> Request:
    return replace(made, method=chance.choice(METHODS))


def _other_path(chance: random.Random, made: Request) -> Request:
    return replace(made, path=chance.choice(DAMAGED_PATHS)(made.path))


def _other_query(chance: random.Random, made: Request) -> Request:
    return replace(made, query=chance.choice(QUERIES))


DAMAGES = (
    _other_header, _other_header, _doubled_header, _fewer_headers, _flipped, _cut,
    _flipped_header, _other_method, _other_path, _other_query,
)  # fmt: skip
