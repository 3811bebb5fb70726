"""The check of a receiver: each flaw of a receiver as people write them has its finding."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from email.utils import formatdate

import pytest

from contract.signatures import Secret
from foundation.db import session as db
from notifier.models import EndpointPing
from notifier.services import Services
from notifier.webhooks import endpoints
from notifier.worker import ping
from notifier.worker.ping import check_receiver
from tests.notifier.conftest import ReceivedRequest, Reply, Sink, Store

Respond = Callable[[list[Secret], ReceivedRequest], Reply]

OK, REFUSED = Reply(), Reply(401, body=b"no signature matches")
MINUTE = 60.0


def mac(secret: Secret, one: ReceivedRequest, body: bytes) -> str:
    content = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + body
    return base64.b64encode(hmac.digest(secret.key, content, "sha256")).decode()


def given(one: ReceivedRequest) -> list[str]:
    """Return the signatures of a request, without their version."""
    return [one.partition(",")[2] for one in one.headers.get("webhook-signature", "").split()]


def is_signed(secrets: Iterable[Secret], one: ReceivedRequest, body: bytes | None = None) -> bool:
    expected = [mac(secret, one, one.body if body is None else body) for secret in secrets]
    return any(hmac.compare_digest(a, b) for a in expected for b in given(one))


def is_recent(one: ReceivedRequest, now: float | None = None) -> bool:
    at = int(one.headers["webhook-timestamp"])
    return abs((time.time() if now is None else now) - at) <= 300


def correct(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    return OK if is_recent(one) and is_signed(secrets, one) else REFUSED


def accepts_anything(_: list[Secret], __: ReceivedRequest) -> Reply:
    return OK


def trusts_the_unsigned(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    return correct(secrets, one) if "webhook-signature" in one.headers else OK


def looks_for_a_signature(_: list[Secret], one: ReceivedRequest) -> Reply:
    return OK if is_recent(one) and given(one) else REFUSED


def ignores_the_timestamp(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    return OK if is_signed(secrets, one) else REFUSED


def writes_the_body_again(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    body = json.dumps(json.loads(one.body)).encode()
    return OK if is_recent(one) and is_signed(secrets, one, body) else REFUSED


def writes_the_body_again_as_we_do(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    body = json.dumps(json.loads(one.body), separators=(",", ":")).encode()
    return OK if is_recent(one) and is_signed(secrets, one, body) else REFUSED


def compares_the_beginning(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    expected = [mac(secret, one, one.body)[:16] for secret in secrets]
    same = any(signature[:16] in expected for signature in given(one))
    return OK if is_recent(one) and same else REFUSED


def compares_up_to_the_shorter(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    same = any(
        all(a == b for a, b in zip(mac(secret, one, one.body), signature, strict=False))
        for secret in secrets
        for signature in given(one)
    )
    return OK if is_recent(one) and same else REFUSED


def reads_the_first_signature(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    same = given(one)[:1] == [mac(secrets[0], one, one.body)]
    return OK if is_recent(one) and same else REFUSED


def has_another_secret(_: list[Secret], one: ReceivedRequest) -> Reply:
    return correct([Secret.generate()], one)


def has_a_slow_clock(secrets: list[Secret], one: ReceivedRequest, minutes: float = 7) -> Reply:
    now = time.time() - minutes * MINUTE
    status = 200 if is_recent(one, now) and is_signed(secrets, one) else 401
    return Reply(status, {"Date": formatdate(now, usegmt=True)})


def has_a_slightly_slow_clock(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    return has_a_slow_clock(secrets, one, minutes=2)


def crashes_without_a_signature(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    return correct(secrets, one) if "webhook-signature" in one.headers else Reply(500)


def knows_no_pings(secrets: list[Secret], one: ReceivedRequest) -> Reply:
    return Reply(422, body=b"unknown type") if correct(secrets, one) is OK else REFUSED


def is_elsewhere(_: list[Secret], __: ReceivedRequest) -> Reply:
    return Reply(404)


def refuses_repetition() -> Respond:
    known = set()

    def respond(secrets: list[Secret], one: ReceivedRequest) -> Reply:
        if one.headers["webhook-id"] in known:
            return Reply(409)
        reply = correct(secrets, one)
        if reply is OK:
            known.add(one.headers["webhook-id"])
        return reply

    return respond


def rotated(store: Store, endpoint_id: int) -> Secret:
    """Rotate the secret of an endpoint, and return the new one."""
    now = store.read(db.now)
    return store.write(
        endpoints.rotate_secret, endpoint_id, overlap=timedelta(hours=1), vault=store.vault, now=now
    )


@pytest.mark.parametrize(
    ("respond", "codes"),
    [
        pytest.param(correct, ["verifies"], id="correct"),
        pytest.param(accepts_anything, ["accepts-anything"], id="anything"),
        pytest.param(trusts_the_unsigned, ["accepts-unsigned"], id="trusts the unsigned"),
        pytest.param(looks_for_a_signature, ["accepts-other-secret"], id="any signature"),
        pytest.param(ignores_the_timestamp, ["ignores-timestamp"], id="no timestamp"),
        pytest.param(writes_the_body_again, ["rewrites-body"], id="writes the body again"),
        pytest.param(
            writes_the_body_again_as_we_do, ["rewrites-body"], id="writes the same body again"
        ),
        pytest.param(compares_the_beginning, ["compares-part"], id="beginning of a signature"),
        pytest.param(compares_up_to_the_shorter, ["compares-part"], id="short signature"),
        pytest.param(reads_the_first_signature, ["reads-one-signature"], id="first signature"),
        pytest.param(refuses_repetition(), ["refuses-repetition"], id="refuses repetition"),
        pytest.param(has_another_secret, ["refuses-everything"], id="refuses everything"),
        pytest.param(has_a_slow_clock, ["clock-differs"], id="clock 7 min behind"),
        pytest.param(has_a_slightly_slow_clock, ["clock-differs"], id="clock 2 min behind"),
        pytest.param(crashes_without_a_signature, ["fails"], id="crashes"),
        pytest.param(knows_no_pings, ["refuses-event"], id="knows no pings"),
        pytest.param(is_elsewhere, ["no-answer"], id="another path"),
    ],
)
def test_check_names_the_flaw(
    here: Services, store: Store, sink: Sink, respond: Respond, codes: list[str]
) -> None:
    made = store.add_endpoint(sink.url())
    sink.respond(lambda one: respond([made.secret], one))

    check = check_receiver(here, made.id)

    assert [finding.code for finding in check.findings] == codes
    assert check.is_flawed == (codes != ["verifies"])
    assert {json.loads(one.body)["type"] for one in sink.received} == {"endpoint.ping"}


@pytest.mark.parametrize(
    ("known", "respond", "codes"),
    [
        pytest.param([0, 1], correct, ["verifies"], id="both secrets"),
        pytest.param([1], correct, ["verifies"], id="new secret"),
        pytest.param([0], correct, ["verifies", "old-secret-only"], id="old secret"),
        pytest.param(
            [0], reads_the_first_signature, ["reads-one-signature"], id="old secret, one signature"
        ),
    ],
)
def test_check_during_a_rotation_tries_each_secret_alone(
    here: Services,
    store: Store,
    sink: Sink,
    known: list[int],
    respond: Respond,
    codes: list[str],
) -> None:
    made = store.add_endpoint(sink.url())
    secrets = [made.secret, rotated(store, made.id)]
    sink.respond(lambda one: respond([secrets[index] for index in known], one))

    check = check_receiver(here, made.id)

    assert [finding.code for finding in check.findings] == codes


def test_check_stores_what_its_first_ping_stores(here: Services, store: Store, sink: Sink) -> None:
    made = store.add_endpoint(sink.url())
    sink.respond(lambda one: correct([made.secret], one))
    before = store.rows()

    check_receiver(here, made.id)

    (stored,), after = store.all(EndpointPing), store.rows()
    assert (stored.status, stored.accepted) == (200, True)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"endpoint_pings", "endpoints"}
    assert store.endpoint(made.id).heartbeat_seconds == 3600


def test_check_tells_how_far_the_clock_is_off(here: Services, store: Store, sink: Sink) -> None:
    made = store.add_endpoint(sink.url())
    sink.respond(lambda one: has_a_slow_clock([made.secret], one))

    check = check_receiver(here, made.id)

    assert check.clock_offset is not None
    assert -425 < check.clock_offset.total_seconds() < -415
    assert check.findings[0].detail.startswith("its clock is 7 min behind, by the Date header")


def test_check_without_a_response_sends_one_ping(here: Services, store: Store) -> None:
    made = store.add_endpoint("http://127.0.0.1:9/")

    check = check_receiver(here, made.id)

    assert [one.response for one in check.results] == ["refused"]
    assert check.findings[0].detail == "does not respond: 127.0.0.1:9: Connection refused"


def test_check_of_a_slow_receiver_ends_early(
    here: Services, store: Store, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.add_endpoint(sink.url())
    sink.respond(lambda one: correct([made.secret], one))
    monkeypatch.setattr(ping, "CHECK_SECONDS", 0.0)

    check = check_receiver(here, made.id)

    assert [finding.code for finding in check.findings] == ["too-slow"]
    assert len(sink.received) == 1


def test_no_session_is_open_during_a_check(here: Services, store: Store, sink: Sink) -> None:
    made, opened = store.add_endpoint(sink.url()), set()

    def respond(one: ReceivedRequest) -> Reply:
        opened.add(store.database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return correct([made.secret], one)

    sink.respond(respond)

    assert not check_receiver(here, made.id).is_flawed
    assert opened == {0}
