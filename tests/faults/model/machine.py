"""The state machine: what may happen to both sides in any order, held against the model."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from notifier.errors import ReplayRefusedError
from tests.faults.model.sender import Endpoint, Result, Room
from tests.faults.model.sides import WORKERS, Sides
from tests.faults.model.world import LEASE, RolledBackError

KINDS = ("course.deleted", "token.regenerated")
WANTS = (KINDS, KINDS, KINDS[:1])
EVERYWHERE = Room(total=20, endpoint=20, retry=20, isolated=20)
NOWHERE = Room(total=0, endpoint=0, retry=0, isolated=0)

picks = st.integers(0, 11)
workers = st.integers(0, WORKERS - 1)
results = st.sampled_from([one for one in Result if one is not Result.REFUSED] + [Result.TAKEN] * 4)
rooms = st.builds(
    Room,
    total=st.integers(1, 6),
    endpoint=st.integers(1, 4),
    retry=st.integers(0, 6),
    isolated=st.integers(0, 2),
)


class Machine(Sides):
    """Two courses, three endpoints that all lead to one ELMS, three workers, one clock."""

    @initialize()
    def begin(self) -> None:
        """Register endpoints whose secrets ELMS knows, and add two courses."""
        for number, wants in enumerate(WANTS):
            endpoint_id, secret = self.world.register(number, wants, now=self.now)
            self.sender.endpoints[endpoint_id] = Endpoint(wants)
            self.new_secret(endpoint_id, secret, timedelta(0))
            self.elms.secrets |= set(self.sender.endpoints[endpoint_id].secrets)
        self.add_course()
        self.add_course()

    @precondition(lambda self: len(self.living()) < 2)
    @rule()
    def add_course(self) -> None:
        """Add a course on both sides."""
        course_id = f"CS{len(self.present)}"
        token = self.world.add_course(course_id, now=self.now)
        self.present[course_id] = token
        self.elms.tokens[course_id] = token.token_id

    @precondition(lambda self: self.living())
    @rule(pick=picks, kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    def change(self, pick: int, kinds: list[str]) -> None:
        """Delete a course or regenerate its token, some times: each event is written with it."""
        course_id = self.living()[pick % len(self.living())]
        for kind in kinds:
            if self.present[course_id] is not None:
                self.change_course(course_id, kind)

    @precondition(lambda self: self.living())
    @rule(pick=picks, kind=st.sampled_from(KINDS))
    def change_is_rolled_back(self, pick: int, kind: str) -> None:
        """A change that fails after its event was written leaves nothing."""
        course_id = self.living()[pick % len(self.living())]
        with pytest.raises(RolledBackError):
            self.world.change(course_id, kind, now=self.now, breaks=True)

    @precondition(lambda self: self.living())
    @rule(pick=picks)
    def enter_token(self, pick: int) -> None:
        """An ELMS administrator enters the present token of a course."""
        course_id = self.living()[pick % len(self.living())]
        token = self.present[course_id]
        assert token is not None
        self.world.enter_token(course_id, token)
        self.elms.tokens[course_id] = token.token_id

    @rule(worker=workers, keep=st.integers(0, 2), backwards=st.booleans(), room=rooms)
    def turn(self, worker: int, keep: int, backwards: bool, room: Room) -> None:
        """A worker settles what has finished, some of it later, in any order, and claims."""
        self.take_turn(worker, self.finished_of(worker, keep, backwards), room)

    @rule(worker=workers, room=rooms, committed=st.booleans())
    def turn_goes_wrong(self, worker: int, room: Room, committed: bool) -> None:
        """A turn is rolled back; or committed, but its worker never hears and settles again."""
        finished = self.finished_of(worker, 0, False)
        if committed:
            before = list(self.hands[worker])
            self.take_turn(worker, finished, room)
            self.hands[worker] = before
            return
        with pytest.raises(RolledBackError):
            self.world.turn([one.finished() for one in finished], room, now=self.now, breaks=True)

    @precondition(lambda self: any(one.may_be_claimed(self.now) for one in self.sender.deliveries))
    @rule(worker=workers, come_of_it=st.lists(results, min_size=1, max_size=4), room=rooms)
    def work(self, worker: int, come_of_it: list[Result], room: Room) -> None:
        """A worker claims, posts at once and settles, as on a good day."""
        self.take_turn(worker, [], room)
        waiting = [one for one in self.hands[worker] if one.result is None]
        for one, result in zip(waiting, come_of_it * len(waiting), strict=False):
            self.make_attempt(one, result)
        self.take_turn(worker, self.finished_of(worker, 0, False), NOWHERE)

    @precondition(lambda self: any(self.hands))
    @rule(pick=picks, come_of_it=st.lists(results, min_size=1, max_size=4))
    def post(self, pick: int, come_of_it: list[Result]) -> None:
        """Workers post, and something comes of each."""
        for result in come_of_it:
            waiting = [one for hand in self.hands for one in hand if one.result is None]
            if waiting:
                self.make_attempt(waiting[pick % len(waiting)], result)

    @precondition(lambda self: self.wire)
    @rule(pick=picks, again=st.booleans())
    def arrive(self, pick: int, again: bool) -> None:
        """A webhook arrives late, in any order, and perhaps once more."""
        one = self.wire[pick % len(self.wire)]
        if not again:
            self.wire.remove(one)
        self.hear(one)

    @precondition(lambda self: any(self.hands))
    @rule(worker=workers)
    def crash(self, worker: int) -> None:
        """A worker is lost with all that it had in hand."""
        self.hands[worker] = []

    @rule(seconds=st.sampled_from([None, -30, -1, 1, 29, 61, 301, 20000, 86400]))
    def pass_time(self, seconds: int | None) -> None:
        """Time passes, to the next thing that is due or by a leap; or is put back a little."""
        if seconds is None:
            self.now = self.sender.next_due(self.now) or self.now
        else:
            self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.sender.deliveries)
    @rule(
        result=st.sampled_from([Result.BUSY, Result.SILENT, Result.LATER, Result.OURS]),
        times=st.integers(3, 11),
    )
    def fail_for_long(self, result: Result, times: int) -> None:
        """Whatever is tried fails, again and again."""
        for _ in range(times):
            self.take_turn(0, self.finished_of(0, 0, False), EVERYWHERE)
            for one in self.hands[0]:
                self.make_attempt(one, one.result or result)
            self.take_turn(0, self.finished_of(0, 0, False), NOWHERE)
            self.now = self.sender.next_due(self.now) or self.now

    @precondition(lambda self: self.sender.deliveries)
    @rule(times=st.integers(3, 11))
    def lose_workers_for_long(self, times: int) -> None:
        """Whoever claims is lost, again and again."""
        for _ in range(times):
            self.take_turn(0, [], EVERYWHERE)
            self.crash(0)
            self.now += LEASE

    @rule(pick=picks, hours=st.sampled_from([0, 1, 24]))
    def rotate(self, pick: int, hours: int) -> None:
        """An endpoint gets a new secret; the old ones sign on for a while."""
        endpoint_id = self.endpoint(pick)
        overlap = timedelta(hours=hours)
        secret = self.world.rotate(endpoint_id, overlap, now=self.now)
        self.new_secret(endpoint_id, secret, overlap)

    @rule(pick=picks, forget=st.booleans())
    def adopt(self, pick: int, forget: bool) -> None:
        """ELMS is given the newest secret of an endpoint, and perhaps forgets the others."""
        names = list(self.sender.endpoints[self.endpoint(pick)].secrets)
        self.elms.secrets.add(names[-1])
        if forget:
            self.elms.secrets -= set(names[:-1])

    @precondition(lambda self: self.sender.deliveries)
    @rule(pick=picks)
    def replay(self, pick: int) -> None:
        """Operations replay a delivery; at a disabled endpoint they cannot."""
        one = self.sender.deliveries[-1 - pick % len(self.sender.deliveries)]
        if self.sender.endpoints[one.endpoint].disabled:
            with pytest.raises(ReplayRefusedError):
                self.world.replay(one.number, now=self.now)
            return
        self.world.replay(one.number, now=self.now)
        self.sender.replay(one, self.now)

    @rule(pick=picks, again=st.booleans())
    def disable(self, pick: int, again: bool) -> None:
        """An endpoint is disabled, and perhaps enabled soon after."""
        self.world.disable(self.endpoint(pick), now=self.now)
        self.sender.disable(self.endpoint(pick))
        if again:
            self.enable(pick)

    @precondition(lambda self: any(one.disabled for one in self.sender.endpoints.values()))
    @rule(pick=picks)
    def enable(self, pick: int) -> None:
        """An endpoint is enabled, whether it was disabled or not."""
        self.world.enable(self.endpoint(pick), now=self.now)
        self.sender.enable(self.endpoint(pick), self.now)

    @invariant()
    def deliveries_are_what_the_model_says(self) -> None:
        """Each row, each attempt and each replay is what the model has."""
        decided, replayed = self.world.decided(), self.world.replayed()
        rows = self.world.deliveries()
        actual = {
            one.id: (
                *(one.event_id, one.endpoint_id, one.status, one.lane, one.attempts, one.due_at),
                *(one.lease_token, one.leased_until),
                *(decided.get(one.id, []), replayed.get(one.id, 0)),
            )
            for one in rows.values()
        }
        expected = {
            one.number: (
                *(one.event, one.endpoint, one.status, one.lane, one.attempts, one.due),
                *(one.lease, one.until, one.decided, one.replays),
            )
            for one in self.sender.deliveries
        }
        assert actual == expected
        self._check_laws(rows, replayed)

    @invariant()
    def endpoints_are_what_the_model_says(self) -> None:
        """Each endpoint is disabled, or as well or ill, as the model has it."""
        for endpoint_id, row in self.world.endpoints().items():
            one = self.sender.endpoints[endpoint_id]
            assert (row.disabled_at is not None) == one.disabled
            if not one.disabled:
                actual = (row.failures, row.failing_since, row.failed_at, row.paused_until)
                assert actual == (one.failures, one.since, one.last, one.paused_until)

    @invariant()
    def registry_is_the_fold_of_what_was_heard(self) -> None:
        """ELMS knows of each course the highest version it heard, and took each id in once."""
        expected = {course_id: self.elms.status(course_id) for course_id in self.present}
        assert self.world.statuses() == expected
        assert set(self.world.inbox()) == {one.event for one in self.elms.facts}
        assert set(self.applied.values()) <= {0, 1}

    def _check_laws(self, rows: dict[int, Any], replayed: dict[int, int]) -> None:
        standing = Counter((row.event_id, row.endpoint_id) for row in rows.values())
        assert self.world.events() == set(self.facts)
        assert standing == {
            (fact.event, endpoint_id): 1
            for fact in self.facts.values()
            for endpoint_id, one in self.sender.endpoints.items()
            if (KINDS[1] if fact.token else KINDS[0]) in one.wants
        }
        for row in rows.values():
            assert row.status in {"pending", "delivered", "dead", "held"}
            assert 0 <= row.attempts <= 10
            assert row.status != "pending" or not self.sender.endpoints[row.endpoint_id].disabled
            if row.id in self.delivered and row.status != "delivered":
                assert replayed.get(row.id, 0) > self.delivered.pop(row.id)
            if row.status == "delivered":
                self.delivered[row.id] = replayed.get(row.id, 0)
        holders = Counter(
            one.claim.delivery.number
            for hand in self.hands
            for one in hand
            if one.claimed.lease_token == rows[one.claim.delivery.number].lease_token
        )
        assert set(holders.values()) <= {1}
