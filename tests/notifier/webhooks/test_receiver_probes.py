"""Probes of a receiver: what is wrong with each, and findings that no real receiver shows."""

from datetime import UTC, datetime, timedelta

import pytest

from contract import events, signatures
from contract.signatures import Secret
from notifier.webhooks.receiver_probes import (
    Probe,
    ProbeResult,
    clock_offset,
    diagnose,
    make_probe,
    probes_for,
)
from notifier.webhooks.retry_policy import Failure, WebhookResponse

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
NEW, OLD = Secret.generate(), Secret.generate()
BODY = events.dump_ping("eassessment.example.ac.uk", NINE).encode()
CORRECT = {
    *(Probe.SIGNED, Probe.REPEATED, Probe.TWO_SIGNATURES, Probe.OTHER_BYTES),
    *(Probe.SIGNED_BY_OLD, Probe.SIGNED_BY_NEW),
}


@pytest.mark.parametrize("probe", Probe)
def test_only_correct_probes_are_verified(probe: Probe) -> None:
    headers, body = make_probe(probe, [NEW, OLD], "msg_1", BODY, now=NINE)

    try:
        is_verified = signatures.verify([NEW, OLD], headers, body, now=NINE) == "msg_1"
    except signatures.SignatureError:
        is_verified = False

    assert is_verified == (probe in CORRECT)
    assert isinstance(events.load(body), events.Ping)


def test_changed_body_differs_in_one_bit() -> None:
    _, changed = make_probe(Probe.CHANGED_BODY, [NEW], "msg_1", BODY, now=NINE)

    assert (int.from_bytes(changed) ^ int.from_bytes(BODY)).bit_count() == 1


def test_probes_of_a_rotation_need_two_secrets() -> None:
    assert set(Probe) - set(probes_for([NEW])) == {Probe.SIGNED_BY_OLD, Probe.SIGNED_BY_NEW}
    assert probes_for([NEW, OLD]) == list(Probe)


def results(**changed: WebhookResponse | Failure | None) -> list[ProbeResult]:
    """Return the results of a receiver that verifies, with changes by the names of probes."""
    verified = {
        probe: WebhookResponse(200 if probe in CORRECT else 401) for probe in probes_for([NEW])
    }
    return [ProbeResult(probe, changed.get(probe.name, one)) for probe, one in verified.items()]


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        pytest.param({"CHANGED_BODY": WebhookResponse(200)}, ["accepts-changed-body"], id="body"),
        pytest.param({"UNSIGNED": Failure("reset", "lost")}, ["fails"], id="drops a connection"),
        pytest.param({"STALE": WebhookResponse(429)}, ["fails"], id="limits the rate"),
        pytest.param({"OTHER_BYTES": None}, ["too-slow"], id="not sent"),
        pytest.param({"SIGNED": WebhookResponse(503)}, ["no-answer"], id="unavailable"),
        pytest.param({"SIGNED": WebhookResponse(301)}, ["no-answer"], id="redirects"),
        pytest.param({"UNSIGNED": WebhookResponse(400)}, ["verifies"], id="any 4xx"),
        pytest.param(
            {
                probe.name: WebhookResponse(500 if probe is Probe.UNSIGNED else 403)
                for probe in Probe
            },
            ["refuses-everything", "fails"],
            id="refuses or crashes",
        ),
    ],
)
def test_finding(changed: dict[str, WebhookResponse | Failure | None], codes: list[str]) -> None:
    found = diagnose(results(**changed), None, 1)

    assert [finding.code for finding in found] == codes


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        pytest.param("Sun, 22 Nov 2026 08:53:00 GMT", -420, id="behind"),
        pytest.param("Sun, 22 Nov 2026 09:02:00 GMT", 120, id="ahead"),
        pytest.param("", None, id="none"),
        pytest.param("yesterday", None, id="no date"),
        pytest.param("Sun, 22 Nov 99999 09:00:00 GMT", None, id="year 99999"),
    ],
)
def test_clock_offset_is_that_of_the_date_header(date: str, seconds: int | None) -> None:
    offset = clock_offset(date, NINE.replace(microsecond=0))

    assert offset == (None if seconds is None else timedelta(seconds=seconds))
