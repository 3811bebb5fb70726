"""The senders of a worker: claimed deliveries in memory, and the threads that post them.

A claim is queued, posted and finished here, or left unsent: it is queued for an endpoint that turns
slow or must wait, or cannot begin in time. What bounds an endpoint is its concurrency, its rate and
its circuit breaker. Slow endpoints have slots of their own, so that they do not delay others.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from notifier.webhooks.circuit_breaker import PAUSED_AFTER, pauses_at_once
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import EndpointHealth, health_of

# The most claims that a worker holds, except those whose posts are slow: with these it is what a
# crash may send twice.
MAX_CLAIMS = 256
# Seconds of work for an endpoint that are claimed ahead.
_SECONDS_AHEAD = 0.15
# Finished attempts that are settled without waiting for more, unless more than these are queued.
_FULL_BATCH = 64
# Seconds between two looks at the posts in progress.
_TICK = 0.02
# The weight of the latest response in the mean response time of an endpoint.
_WEIGHT = 0.2
# Seconds after which a post is slow, and an endpoint with this mean response time.
_SLOW = 0.3
# Slow posts at once, each of which costs about 100 kB. A slow endpoint may have one of them for
# each of this number of free slots.
_SLOW_POSTS, _FREE_PER_POST = 512, 128
# Other posts at once in the beginning. There are more while this process uses less than a part of a
# core, and fewer while it uses nearly a whole one: they would only compete for the interpreter's
# lock.
_FIRST_POSTS, _GROW_BELOW, _SHRINK_ABOVE = 2, 0.8, 0.9


@dataclass(eq=False)
class _Slots:
    """Slots for posts: those in progress, and the endpoints that wait for one, oldest first."""

    number: int
    posts: "dict[_Post, None]" = field(default_factory=dict)
    waiting: "OrderedDict[_Endpoint, None]" = field(default_factory=OrderedDict)

    @property
    def free(self) -> int:
        return self.number - len(self.posts)


@dataclass(eq=False)
class _Endpoint:
    """An endpoint and its claims.

    `queue` holds what is to be sent, each with the time before which it must begin; `claims` counts
    in addition what is in progress or was not taken yet, `unsettled` the results that the database
    does not know yet. `seconds` is the mean response time, None before the first response.
    `failures` counts those in a row, and begins as if there had been some, because the endpoint may
    have just been paused. Its rate permits a post at `next_at`, and a second's worth in advance.
    """

    slots: _Slots
    queue: deque[tuple[Claimed, float]] = field(default_factory=deque)
    claims: int = 0
    posting: int = 0
    unsettled: int = 0
    seconds: float | None = None
    failures: int = PAUSED_AFTER - 1
    next_at: float = float("-inf")

    @property
    def must_wait(self) -> bool:
        """Whether it may be paused once the results are settled, so that nothing is sent before."""
        return self.failures >= PAUSED_AFTER and self.unsettled > 0


@dataclass(eq=False)
class _Post:
    """A post in progress, and the slots of which it uses one."""

    endpoint: _Endpoint
    claimed: Claimed
    started_at: float
    slots: _Slots


class Senders:
    """Posts claimed deliveries on threads, and collects what has finished.

    `post` makes one attempt. `on_finished` is called with False at the first finished attempt, and
    with True at a full batch and when nothing is left to send. At most `threads` attempts are in
    progress at a time, and up to 512 more that have taken longer than 0.3 seconds. `rate` limits
    the attempts per second and endpoint.
    """

    def __init__(
        self,
        post: Callable[[Claimed], Finished],
        on_finished: Callable[[bool], None],
        *,
        threads: int,
        per_endpoint: int,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        processor_time: Callable[[], float] = time.process_time,
    ) -> None:
        self._post = post
        self._on_finished = on_finished
        self._threads = threads
        self._per_endpoint = min(threads, per_endpoint)
        self._rate = rate
        self._clock = clock
        self._processor_time = processor_time
        self._lock = threading.Lock()
        self._watched = threading.Condition(self._lock)
        self._endpoints: dict[int, _Endpoint] = {}
        self._quick = _Slots(min(threads, _FIRST_POSTS))
        self._slow = _Slots(_SLOW_POSTS)
        self._throttled: list[_Endpoint] = []
        self._finished: list[Finished] = []
        self._unsent: list[Claimed] = []
        self._claims = 0
        self._closed = False
        threading.Thread(target=self._watch, name="senders-watch", daemon=True).start()

    @property
    def claims(self) -> int:
        """The number of claims held: queued, posting, or not taken yet."""
        return self._claims

    @property
    def posting(self) -> int:
        """The number of attempts in progress."""
        return len(self._quick.posts) + len(self._slow.posts)

    def wanted(self, endpoint_ids: Sequence[int]) -> dict[int, int]:
        """Return how many deliveries may be claimed for each endpoint; zero is left out.

        If they are too many in total, those that want most get equal shares of what is left.
        """
        with self._lock:
            numbers = {each: self._wanted(self._endpoint(each)) for each in endpoint_ids}
            left = MAX_CLAIMS - self._claims + len(self._slow.posts)
        wanted = {}
        by_size = sorted(numbers.items(), key=lambda item: item[1])
        for index, (endpoint_id, number) in enumerate(by_size):
            given = min(number, left // (len(by_size) - index))
            left -= given
            if given > 0:
                wanted[endpoint_id] = given
        return wanted

    def put(self, claimed: Sequence[Claimed], *, send_before: float) -> None:
        """Send claimed deliveries; those that are not begun before a time are not sent."""
        with self._lock:
            for claim in claimed:
                endpoint = self._endpoint(claim.endpoint_id)
                endpoint.queue.append((claim, send_before))
                endpoint.claims += 1
                self._wait_for_slot(endpoint)
            self._claims += len(claimed)
            self._start_posts()

    def take(self, *, all_unsent: bool = False) -> tuple[list[Finished], list[Claimed]]:
        """Return what has finished and what was left unsent since the last call, to be settled.

        Then call `mark_settled`. With `all_unsent` nothing stays queued.
        """
        with self._lock:
            if all_unsent:
                for endpoint in self._endpoints.values():
                    self._leave_unsent(endpoint)
            finished, self._finished = self._finished, []
            unsent, self._unsent = self._unsent, []
            taken = [*(attempt.claimed for attempt in finished), *unsent]
            for claim in taken:
                self._endpoints[claim.endpoint_id].claims -= 1
            self._claims -= len(taken)
        return finished, unsent

    def mark_settled(self, finished: Sequence[Finished]) -> None:
        """Note that what was taken is settled, and the state of the endpoints with it."""
        with self._lock:
            for attempt in finished:
                self._endpoints[attempt.claimed.endpoint_id].unsettled -= 1

    def close(self) -> None:
        """End the threads after their current posts."""
        with self._lock:
            self._closed = True
            self._watched.notify_all()

    def _endpoint(self, endpoint_id: int) -> _Endpoint:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = self._endpoints[endpoint_id] = _Endpoint(self._quick)
        return endpoint

    def _wanted(self, endpoint: _Endpoint) -> int:
        if endpoint.must_wait:
            return 0
        if endpoint.seconds is None:
            most = self._per_endpoint
        elif endpoint.failures or endpoint.slots is self._slow:
            most = self._concurrency(endpoint)
        else:
            per_second = min(self._per_endpoint / max(endpoint.seconds, 0.0001), self._rate)
            most = max(self._per_endpoint, int(per_second * _SECONDS_AHEAD))
        return max(0, most - endpoint.claims)

    def _concurrency(self, endpoint: _Endpoint) -> int:
        if endpoint.slots is self._slow:
            return min(self._per_endpoint, math.ceil(self._slow.free / _FREE_PER_POST))
        is_uncertain = endpoint.seconds is None or endpoint.failures >= PAUSED_AFTER
        return 1 if is_uncertain else self._per_endpoint

    def _wait_for_slot(self, endpoint: _Endpoint) -> None:
        if endpoint.queue:
            endpoint.slots.waiting[endpoint] = None

    def _leave_unsent(self, endpoint: _Endpoint) -> None:
        self._unsent += [claim for claim, _ in endpoint.queue]
        endpoint.queue.clear()

    def _start_posts(self) -> None:
        """Start what may be posted now, on other threads."""
        while (post := self._next_post()) is not None:
            thread = threading.Thread(target=self._run, args=(post,), name="sender", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads now
                self._unsent.append(post.claimed)
                self._end(post)
                return

    def _run(self, post: _Post | None) -> None:
        """Make a post, and then others as long as there are some."""
        while post is not None:
            post = self._finish(post, self._post(post.claimed))

    def _finish(self, post: _Post, finished: Finished) -> _Post | None:
        """Note what has finished; return what this thread posts next."""
        with self._lock:
            self._end(post)
            self._record(post, finished)
            following = self._next_post()
            self._start_posts()  # more of the same endpoint may be sent
            number, posting = len(self._finished), self.posting
            queued = self._claims - posting - number
            is_full = number >= max(_FULL_BATCH, queued) or not posting
        if is_full or number == 1:
            self._on_finished(is_full)
        return following

    def _next_post(self) -> _Post | None:
        """Return a post that begins now, of the endpoint that has waited longest."""
        now = self._clock()
        for slots in (self._quick, self._slow):
            while slots.waiting and slots.free > 0 and not self._closed:
                endpoint, _ = slots.waiting.popitem(last=False)
                if endpoint.queue and self._may_post(endpoint, now):
                    claim, _ = endpoint.queue.popleft()
                    self._wait_for_slot(endpoint)
                    endpoint.posting += 1
                    endpoint.next_at = max(endpoint.next_at, now - 1) + 1 / self._rate
                    post = _Post(endpoint, claim, now, slots)
                    slots.posts[post] = None
                    self._watched.notify()
                    return post
        return None

    def _may_post(self, endpoint: _Endpoint, now: float) -> bool:
        _, send_before = endpoint.queue[0]
        has_room = endpoint.posting < self._concurrency(endpoint)
        is_blocked = endpoint.slots is self._slow and not has_room  # for long
        if endpoint.must_wait or is_blocked or now >= send_before:
            self._leave_unsent(endpoint)
        elif has_room and endpoint.next_at >= now:
            self._throttled.append(endpoint)
            self._watched.notify()
        else:
            return has_room
        return False

    def _end(self, post: _Post) -> None:
        del post.slots.posts[post]
        post.endpoint.posting -= 1

    def _record(self, post: _Post, finished: Finished) -> None:
        """Note a result, and what it says about its endpoint."""
        endpoint = post.endpoint
        self._finished.append(finished)
        endpoint.unsettled += 1
        seconds = self._clock() - post.started_at
        mean = seconds if endpoint.seconds is None else endpoint.seconds
        endpoint.seconds = mean + _WEIGHT * (seconds - mean)
        match health_of(finished.result):
            case EndpointHealth.HEALTHY:
                endpoint.failures = 0
            case EndpointHealth.FAILING:
                endpoint.failures += 1
        if pauses_at_once(finished.result, now=finished.started_at):
            endpoint.failures = PAUSED_AFTER
        self._move(endpoint, self._slow if endpoint.seconds >= _SLOW else self._quick)

    def _move(self, endpoint: _Endpoint, slots: _Slots) -> None:
        if endpoint.slots is not slots:
            endpoint.slots.waiting.pop(endpoint, None)
            endpoint.slots = slots
            if slots is self._slow:  # what was claimed ahead would wait for too long
                self._leave_unsent(endpoint)
        self._wait_for_slot(endpoint)

    def _watch(self) -> None:
        """Find slow posts, let throttled ones begin, and adjust how many may be in progress."""
        while not self._closed:
            with self._lock:
                while not (
                    self._closed or self._quick.posts or self._quick.waiting or self._throttled
                ):
                    self._watched.wait()
                begun, used = self._clock(), self._processor_time()
            time.sleep(_TICK)
            with self._lock:
                self._move_slow()
                used = self._processor_time() - used
                self._adjust(used / max(self._clock() - begun, _TICK))
                throttled, self._throttled = self._throttled, []
                for endpoint in throttled:
                    self._wait_for_slot(endpoint)
                self._start_posts()

    def _move_slow(self) -> None:
        before = self._clock() - _SLOW
        for post in list(self._quick.posts):
            if post.started_at > before or self._slow.free <= 0:
                return
            del self._quick.posts[post]
            post.slots = self._slow
            self._slow.posts[post] = None
            self._move(post.endpoint, self._slow)

    def _adjust(self, cores_used: float) -> None:
        number = self._quick.number
        if cores_used > _SHRINK_ABOVE:
            self._quick.number = max(1, number - max(1, number // 8))
        elif cores_used < _GROW_BELOW and self._quick.waiting:
            self._quick.number = min(self._threads, number + max(1, number // 2))
