"""Senders: what may be claimed, how many posts at once, what is sent when."""

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from foundation.tracing import new_span
from notifier.webhooks.circuit_breaker import PAUSED_AFTER
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import AttemptResult, Failure, WebhookResponse
from notifier.worker.senders import MAX_CLAIMS, Senders
from tests.faults.processes import wait_until
from tests.notifier.conftest import NINE

SOON, OK = 1e9, WebhookResponse(200)


def make_claimed(number: int, endpoint_id: int = 1) -> Claimed:
    return Claimed(
        delivery_id=number,
        endpoint_id=endpoint_id,
        webhook_id=f"msg_{number}",
        event_type="course.deleted",
        course_id="CS101",
        url="https://elms.example",
        body="{}",
        encrypted_secrets=(),
        attempts=1,
        lease_token="token",
        occurred_at=NINE,
        claimed_at=NINE,
        span=new_span(),
    )


@dataclass
class Receiver:
    """Makes attempts: counts those in progress, and holds those of some endpoints."""

    results: dict[int, AttemptResult] = field(default_factory=dict)
    gates: dict[int, threading.Event] = field(default_factory=dict)
    posting: list[Claimed] = field(default_factory=list)
    posted: list[Claimed] = field(default_factory=list)
    now: float = 0.0
    milliseconds: int = 1

    def post(self, claimed: Claimed) -> Finished:
        self.posting.append(claimed)
        if gate := self.gates.get(claimed.endpoint_id):
            gate.wait(30)
        self.posting.remove(claimed)
        self.posted.append(claimed)
        result = self.results.get(claimed.endpoint_id, OK)
        return Finished(claimed, NINE, self.milliseconds, result)

    def passes(self, seconds: float) -> bool:
        """Let time pass, but less than until posts are slow."""
        self.now = min(self.now + seconds, 0.25)
        return True

    def hold(self, *endpoint_ids: int) -> None:
        for endpoint_id in endpoint_ids:
            self.gates[endpoint_id] = threading.Event()

    def release(self) -> None:
        for gate in self.gates.values():
            gate.set()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.release()


MakeSenders = Callable[..., Senders]


@pytest.fixture
def make_senders(receiver: Receiver) -> Iterator[MakeSenders]:
    """Return a function that makes senders whose clock is the receiver's."""
    made: list[Senders] = []

    def make(
        threads: int = 16,
        per_endpoint: int = 4,
        rate: float = 1e6,
        processor_time: Callable[[], float] = lambda: 0.0,
    ) -> Senders:
        made.append(
            Senders(
                receiver.post,
                lambda _: None,
                threads=threads,
                per_endpoint=per_endpoint,
                rate=rate,
                clock=lambda: receiver.now,
                processor_time=processor_time,
            )
        )
        return made[-1]

    yield make
    receiver.release()
    for one in made:
        one.close()


def send(senders: Senders, *claimed: Claimed) -> None:
    """Send, and wait until each has been finished and settled."""
    senders.put(claimed, send_before=SOON)
    finished: list[Finished] = []

    def all_are_finished() -> bool:
        finished.extend(senders.take()[0])
        return len(finished) == len(claimed)

    wait_until(all_are_finished, "all is sent")
    senders.mark_settled(finished)


def respond_once(senders: Senders, *endpoint_ids: int) -> None:
    """Let each of some new endpoints respond for the first time."""
    send(senders, *(make_claimed(-1, endpoint_id) for endpoint_id in endpoint_ids))


def unsent_of(senders: Senders) -> list[Claimed]:
    """Settle what has finished, and return what was left unsent."""
    finished, unsent = senders.take()
    senders.mark_settled(finished)
    return unsent


def test_new_endpoint_gets_one_claim(make_senders: MakeSenders) -> None:
    assert make_senders().wanted({1: False, 2: False}) == {1: 1, 2: 1}


def test_new_endpoint_gets_one_post_until_it_responds(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    """It may be slow."""
    senders, other = make_senders(), make_claimed(5, 2)
    receiver.hold(1)

    senders.put([*map(make_claimed, range(4)), other], send_before=SOON)
    wait_until(lambda: other in receiver.posted, "the other endpoint's is sent")
    first = len(receiver.posting)
    receiver.release()
    wait_until(lambda: len(receiver.posted) == 5, "all is sent")

    assert first == 1


def test_many_silent_new_endpoints_soon_use_no_thread_of_others(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    """As after a restart of the worker."""
    senders, other = make_senders(threads=8), make_claimed(100, 100)
    receiver.hold(*range(100))

    senders.put([*(make_claimed(n, n) for n in range(100)), other], send_before=SOON)

    def sent_a_tick_later() -> bool:
        receiver.now += 0.021
        return other in receiver.posted

    wait_until(sent_a_tick_later, "the other endpoint's is sent")


def test_quick_endpoint_gets_claims_ahead(make_senders: MakeSenders) -> None:
    senders = make_senders()

    send(senders, make_claimed(1))

    assert senders.wanted({1: False}) == {1: MAX_CLAIMS}


def test_claims_in_total_are_shared(make_senders: MakeSenders) -> None:
    senders = make_senders()
    for endpoint_id in (1, 2, 3):
        send(senders, make_claimed(endpoint_id, endpoint_id))

    wanted = senders.wanted(dict.fromkeys(range(1, 5), False))

    assert wanted == {1: 85, 2: 85, 3: 85, 4: 1}
    assert sum(wanted.values()) == MAX_CLAIMS


def test_claims_that_are_left_go_to_the_first_endpoints(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    """One that wants few claims is not passed over because others want many."""
    senders = make_senders()
    for endpoint_id in range(1, 10):
        send(senders, make_claimed(endpoint_id, endpoint_id))
    receiver.hold(9)
    senders.put([make_claimed(n, 9) for n in range(MAX_CLAIMS - 3)], send_before=SOON)

    wanted = senders.wanted(dict.fromkeys([1, 100, 2, 3, 4], False))

    assert wanted == {1: 1, 100: 1, 2: 1}


def test_endpoint_that_others_paused_gets_one_claim(make_senders: MakeSenders) -> None:
    senders = make_senders()
    send(senders, make_claimed(1))

    assert senders.wanted({1: True}) == {1: 1}


def test_failing_endpoint_gets_no_claims_ahead(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    senders = make_senders()

    send(senders, make_claimed(0))
    receiver.results[1] = Failure("refused", "connection refused")
    send(senders, make_claimed(1))

    assert senders.wanted({1: False}) == {1: 4}


def test_endpoint_that_fails_at_once_is_tried_once_more(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    """It may have been paused by another worker, or before the start of this one."""
    senders = make_senders()
    receiver.results[1] = Failure("refused", "connection refused")

    send(senders, make_claimed(1))

    assert senders.wanted({1: False}) == {1: 1}


def test_rate_limits_posts(make_senders: MakeSenders, receiver: Receiver) -> None:
    senders = make_senders(rate=2.0)
    send(senders, make_claimed(1), make_claimed(2))
    throttled, other = make_claimed(3), make_claimed(4, 2)

    senders.put([throttled, other], send_before=SOON)
    wait_until(lambda: other in receiver.posted, "the other endpoint's is sent")
    first = list(receiver.posted)
    receiver.now += 0.51

    wait_until(lambda: throttled in receiver.posted, "half a second later it is sent")
    assert throttled not in first


def test_rate_limits_claims_ahead(make_senders: MakeSenders) -> None:
    senders = make_senders(rate=100.0)

    send(senders, make_claimed(1))

    assert senders.wanted({1: False}) == {1: 15}


@pytest.mark.parametrize(
    ("result", "sent"),
    [
        pytest.param(Failure("refused", "connection refused"), PAUSED_AFTER, id="failures"),
        pytest.param(WebhookResponse(410), 1, id="gone"),
        pytest.param(WebhookResponse(503, retry_after="60"), 1, id="asks for a pause"),
    ],
)
def test_nothing_more_is_sent_before_failures_are_settled(
    make_senders: MakeSenders, receiver: Receiver, result: AttemptResult, sent: int
) -> None:
    senders = make_senders(threads=1)
    send(senders, make_claimed(99))
    receiver.posted.clear()
    receiver.results[1] = result

    senders.put([make_claimed(number) for number in range(9)], send_before=SOON)
    send_another = make_claimed(100, 2)
    senders.put([send_another], send_before=SOON)
    wait_until(lambda: send_another in receiver.posted, "the other endpoint's is sent")
    wait_until(lambda: not senders.posting, "all that may be sent is sent")

    assert len(receiver.posted) == sent + 1
    assert senders.wanted({1: False}) == {}
    assert len(unsent_of(senders)) == 9 - sent


def test_endpoint_that_stays_enabled_goes_on_after_its_failures(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    senders = make_senders()
    receiver.results[1] = Failure("refused", "connection refused")
    for number in range(PAUSED_AFTER + 1):
        send(senders, make_claimed(number))

    assert len(receiver.posted) == PAUSED_AFTER + 1


def test_more_threads_post_where_they_wait(make_senders: MakeSenders, receiver: Receiver) -> None:
    senders = make_senders(threads=9)
    respond_once(senders, *range(12))
    receiver.hold(*range(12))

    senders.put([make_claimed(n, n) for n in range(12)], send_before=SOON)
    wait_until(lambda: receiver.passes(0.03) and len(receiver.posting) == 9, "all threads post")
    receiver.release()
    wait_until(lambda: len(receiver.posted) == 24, "all is sent")


def test_claim_for_which_no_thread_starts_is_left_unsent(
    make_senders: MakeSenders, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    senders, claimed = make_senders(), make_claimed(1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        senders.put([claimed], send_before=SOON)

    assert unsent_of(senders) == [claimed]
    send(senders, claimed)
    assert receiver.posted == [claimed]


def test_few_threads_post_while_the_processor_is_busy(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    ticks = itertools.count()
    senders = make_senders(threads=9, processor_time=lambda: next(ticks) * 0.02)
    receiver.hold(*range(9))

    senders.put([make_claimed(n, n) for n in range(9)], send_before=SOON)
    wait_until(lambda: next(ticks) > 50, "time has passed")

    assert len(receiver.posting) == 2


def test_slow_attempts_use_no_thread_of_others(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    """An attempt that takes longer than 0.3 s lets another start (F33)."""
    senders = make_senders(threads=2, per_endpoint=1)
    receiver.hold(1, 2)
    senders.put([make_claimed(1, 1), make_claimed(2, 2)], send_before=SOON)
    wait_until(lambda: len(receiver.posting) == 2, "both threads post")
    other = make_claimed(3, 3)
    senders.put([other], send_before=SOON)

    receiver.now = 1.1
    wait_until(lambda: other in receiver.posted, "the third one is sent")

    assert len(receiver.posting) == 2


def test_endpoint_that_hangs_gets_no_claims_ahead(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    senders = make_senders()
    send(senders, make_claimed(1))
    receiver.hold(1)
    senders.put([make_claimed(2)], send_before=SOON)
    wait_until(lambda: len(receiver.posting) == 1, "it is sent")

    receiver.now = 0.6

    wait_until(lambda: senders.wanted({1: False}) == {1: 3}, "the endpoint counts as slow")


def test_claims_ahead_of_an_endpoint_that_turns_slow_are_left_unsent(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    senders = make_senders()
    receiver.hold(1)
    senders.put(list(map(make_claimed, range(4))), send_before=SOON)
    wait_until(lambda: len(receiver.posting) == 1, "one is sent")

    receiver.now = 0.6

    wait_until(lambda: len(unsent_of(senders)) == 3, "the others are left unsent")


def test_endpoint_that_responded_in_no_time_can_turn_slow(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    """It is known, and its only post is not taken for the first one."""
    senders = make_senders(per_endpoint=1)
    receiver.milliseconds = 0
    respond_once(senders, 1)
    receiver.hold(1)
    senders.put(list(map(make_claimed, range(4))), send_before=SOON)
    wait_until(lambda: receiver.passes(0.05) and receiver.now == 0.25, "some time has passed")

    receiver.now = 0.6

    wait_until(lambda: len(unsent_of(senders)) == 3, "the others are left unsent")


def test_slow_endpoint_has_fewer_slots_the_more_are_slow(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    senders = make_senders(threads=390)
    send(senders, make_claimed(390, 1))
    receiver.hold(*range(390))

    senders.put([make_claimed(n, n) for n in range(10)], send_before=SOON)
    wait_until(lambda: len(receiver.posting) == 10, "some are sent")
    receiver.now = 1.1
    wait_until(lambda: senders.wanted({1: False}) == {1: 3}, "it may have four")
    senders.put([make_claimed(n, n) for n in range(10, 390)], send_before=SOON)
    wait_until(lambda: len(receiver.posting) == 390, "all are sent")
    receiver.now = 2.2

    wait_until(lambda: senders.wanted({1: False}) == {}, "it may have one")


def test_claims_that_are_late_are_not_sent(make_senders: MakeSenders, receiver: Receiver) -> None:
    senders, late = make_senders(), make_claimed(1)
    receiver.now = 2.0

    senders.put([late], send_before=1.0)

    assert (unsent_of(senders), receiver.posted) == ([late], [])


def test_unsent_claims_leave_room_for_others(make_senders: MakeSenders, receiver: Receiver) -> None:
    senders = make_senders(per_endpoint=1)
    receiver.hold(1)
    senders.put([make_claimed(1), make_claimed(2)], send_before=SOON)
    wait_until(lambda: len(receiver.posting) == 1, "one is sent")

    _, unsent = senders.take(all_unsent=True)

    assert [one.delivery_id for one in unsent] == [2]
    assert senders.claims == 1


def test_claims_that_are_being_settled_leave_room_for_others(
    make_senders: MakeSenders, receiver: Receiver
) -> None:
    """The senders go on while a transaction settles what has finished and claims more."""
    senders = make_senders(per_endpoint=2)
    senders.put([make_claimed(1), make_claimed(2)], send_before=SOON)
    wait_until(lambda: len(receiver.posted) == 2 and not senders.posting, "both are sent")
    before = senders.wanted({1: False})

    finished, _ = senders.take()

    assert (before, len(finished)) == ({1: MAX_CLAIMS - 2}, 2)
    assert senders.wanted({1: False}) == {1: MAX_CLAIMS}


def test_owner_is_notified_of_the_first_and_of_the_last(receiver: Receiver) -> None:
    notified: list[bool] = []
    senders = Senders(receiver.post, notified.append, threads=1, per_endpoint=1, rate=1e6)

    senders.put([make_claimed(number) for number in range(3)], send_before=SOON)
    wait_until(lambda: len(notified) == 2, "both are notified")
    senders.close()

    assert notified == [False, True]
