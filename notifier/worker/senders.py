"""The senders of a worker: claimed deliveries in memory, and the threads that post them.

A claim is queued, posted and finished here, unless it is withdrawn before it is posted. What bounds
an endpoint is its concurrency, its rate and its circuit breaker. Slow endpoints have slots of their
own, so that they do not delay others.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from notifier.webhooks.circuit_breaker import PAUSED_AFTER
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import AttemptResult, EndpointHealth, health_of, is_gone

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
# Slow posts at once, each of which costs about 100 kB, and the free slots for each post that a slow
# endpoint may have.
_SLOW_POSTS, _FREE_PER_POST = 512, 128
# Other posts at once in the beginning. There are more while this process uses less than a part of a
# core, and fewer while it uses nearly a whole one: they would only compete for the interpreter's
# lock.
_FIRST_POSTS, _GROW_BELOW, _SHRINK_ABOVE = 2, 0.8, 0.9


@dataclass
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
    in addition what is in progress or finished. `seconds` is the mean response time, None before
    the first response. `failures` counts those in a row. Its rate permits further claims at
    `paid_until`, and a second's worth in advance.
    """

    slots: _Slots
    paid_until: float
    queue: deque[tuple[Claimed, float]] = field(default_factory=deque)
    claims: int = 0
    posting: int = 0
    seconds: float | None = None
    failures: int = 0


@dataclass(eq=False)
class _Post:
    """A post in progress, and the slots of which it uses one.

    `is_void` is set if no thread could be started for it, and its claim is queued again.
    """

    endpoint: _Endpoint
    claimed: Claimed
    send_before: float
    started_at: float
    slots: _Slots
    is_void: bool = False


class Senders:
    """Posts claimed deliveries on threads, and collects what has finished.

    `post` makes one attempt. `on_finished` is called with False at the first finished attempt, and
    with True at a full batch and when nothing is left to send. At most `threads` attempts are in
    progress at a time, and up to 512 more that have taken longer than 0.3 seconds. `rate` limits
    the claims per second and endpoint.
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
        self._pool = ThreadPoolExecutor(threads + _SLOW_POSTS, "sender")
        self._endpoints: dict[int, _Endpoint] = {}
        self._quick = _Slots(min(threads, _FIRST_POSTS))
        self._slow = _Slots(_SLOW_POSTS)
        self._finished: list[Finished] = []
        self._unsettled_failures: set[_Endpoint] = set()
        self._claims = 0
        self._closed = False
        threading.Thread(target=self._watch, name="senders-watch", daemon=True).start()

    @property
    def claims(self) -> int:
        """The number of claims held: queued, posting, or finished and not taken yet."""
        return self._claims

    @property
    def posting(self) -> int:
        """The number of attempts in progress."""
        return len(self._quick.posts) + len(self._slow.posts)

    def queued_endpoints(self) -> set[int]:
        """Return the endpoints with claims that are still to be sent."""
        with self._lock:
            return {
                endpoint_id for endpoint_id, endpoint in self._endpoints.items() if endpoint.queue
            }

    def wanted(self, endpoint_ids: Sequence[int]) -> dict[int, int]:
        """Return how many deliveries may be claimed for each endpoint; zero is left out.

        If they are too many in total, those that want most get equal shares of what is left.
        """
        with self._lock:
            numbers, slow = {}, self._slow.free
            for endpoint_id in endpoint_ids:
                endpoint = self._endpoint(endpoint_id)
                number = self._wanted(endpoint)
                if endpoint.slots is self._slow:  # they share what is left of the slots
                    number = min(number, slow)
                    slow -= number
                numbers[endpoint_id] = number
            left = MAX_CLAIMS - self._claims + len(self._slow.posts)
        wanted = {}
        by_size = sorted(numbers.items(), key=lambda item: item[1])
        for index, (endpoint_id, number) in enumerate(by_size):
            given = min(number, left // (len(by_size) - index))
            left -= given
            if given > 0:
                wanted[endpoint_id] = given
        return wanted

    def is_throttled(self, endpoint_ids: Iterable[int]) -> bool:
        """Return True if the rate of one of the endpoints permits no claim now."""
        with self._lock:
            return any(self._permitted(self._endpoint(each)) < 1 for each in endpoint_ids)

    def put(self, claimed: Sequence[Claimed], *, send_before: float) -> None:
        """Send claimed deliveries; those that are not begun before a time are not sent."""
        with self._lock:
            for claim in claimed:
                endpoint = self._endpoint(claim.endpoint_id)
                endpoint.queue.append((claim, send_before))
                endpoint.claims += 1
                endpoint.paid_until = max(endpoint.paid_until, self._clock()) + 1 / self._rate
                self._wait_for_slot(endpoint)
            self._claims += len(claimed)
            self._start_posts()

    def take_finished(self) -> list[Finished]:
        """Return what has finished since the last call, to be settled; then call `mark_settled`."""
        with self._lock:
            finished, self._finished = self._finished, []
            for attempt in finished:
                self._endpoints[attempt.claimed.endpoint_id].claims -= 1
            self._claims -= len(finished)
        return finished

    def withdraw(self, endpoint_ids: Collection[int] | None = None) -> list[Claimed]:
        """Return claims that will not be sent, to be given back.

        Those of some endpoints (None: all), of slow ones, and those that were not begun in time.
        """
        withdrawn: list[Claimed] = []
        with self._lock:
            for endpoint_id, endpoint in self._endpoints.items():
                if endpoint.queue and (
                    endpoint_ids is None
                    or endpoint_id in endpoint_ids
                    or endpoint.slots is self._slow
                    or self._is_overdue(endpoint)
                ):
                    withdrawn += [claim for claim, _ in endpoint.queue]
                    endpoint.claims -= len(endpoint.queue)
                    endpoint.paid_until -= len(endpoint.queue) / self._rate
                    endpoint.queue.clear()
            self._claims -= len(withdrawn)
        return withdrawn

    def mark_settled(self) -> None:
        """Note that what was taken is settled, and the state of the endpoints with it."""
        with self._lock:
            settled = self._unsettled_failures
            finished = {self._endpoints[each.claimed.endpoint_id] for each in self._finished}
            self._unsettled_failures = settled & finished
            for endpoint in settled:
                self._wait_for_slot(endpoint)
            self._start_posts()

    def close(self) -> None:
        """End the threads after their current posts."""
        with self._lock:
            self._closed = True
            self._watched.notify_all()
        self._pool.shutdown(wait=False)

    def _endpoint(self, endpoint_id: int) -> _Endpoint:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = self._endpoints[endpoint_id] = _Endpoint(self._quick, self._clock())
        return endpoint

    def _wanted(self, endpoint: _Endpoint) -> int:
        if self._is_stopped(endpoint):
            return 0
        most = concurrency = self._concurrency(endpoint)
        if endpoint.slots is self._quick and endpoint.seconds is not None and not endpoint.failures:
            most = max(most, int(concurrency * _SECONDS_AHEAD / max(endpoint.seconds, 0.0001)))
        return max(0, min(most - endpoint.claims, int(self._permitted(endpoint))))

    def _permitted(self, endpoint: _Endpoint) -> float:
        """Return how many claims the rate permits now."""
        owed = max(0.0, endpoint.paid_until - self._clock()) * self._rate
        return max(1.0, self._rate) - owed

    def _concurrency(self, endpoint: _Endpoint) -> int:
        if endpoint.slots is self._slow:
            return min(self._per_endpoint, max(1, self._slow.free // _FREE_PER_POST))
        return self._per_endpoint if endpoint.seconds is not None else 1  # it may be slow

    def _is_stopped(self, endpoint: _Endpoint) -> bool:
        """Return True if nothing more is sent until its failures are settled."""
        return endpoint.failures >= PAUSED_AFTER and endpoint in self._unsettled_failures

    def _is_overdue(self, endpoint: _Endpoint) -> bool:
        _, send_before = endpoint.queue[0]
        return self._clock() >= send_before

    def _may_post(self, endpoint: _Endpoint) -> bool:
        return (
            bool(endpoint.queue)
            and endpoint.posting < self._concurrency(endpoint)
            and not self._is_stopped(endpoint)
            and not self._is_overdue(endpoint)
        )

    def _wait_for_slot(self, endpoint: _Endpoint) -> None:
        if endpoint.queue:
            endpoint.slots.waiting[endpoint] = None

    def _start_posts(self) -> None:
        """Start what may be posted now, on other threads."""
        while (post := self._next_post()) is not None:
            try:
                self._pool.submit(self._run, post)
            except RuntimeError:  # the system has no more threads now, but the pool has the post
                post.is_void = True
                del post.slots.posts[post]
                post.endpoint.posting -= 1
                post.endpoint.queue.appendleft((post.claimed, post.send_before))
                self._wait_for_slot(post.endpoint)
                return

    def _run(self, post: _Post | None) -> None:
        """Make a post, and then others as long as there are some."""
        with self._lock:  # of the thread that starts it, which may still find that it cannot
            if post is not None and post.is_void:
                return
        while post is not None:
            post = self._finish(post, self._post(post.claimed))

    def _finish(self, post: _Post, finished: Finished) -> _Post | None:
        """Note what has finished; return what this thread posts next."""
        with self._lock:
            self._count(post, finished.result)
            self._finished.append(finished)
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
        for slots in (self._quick, self._slow):
            while slots.waiting and slots.free > 0 and not self._closed:
                endpoint, _ = slots.waiting.popitem(last=False)
                if self._may_post(endpoint):
                    claim, send_before = endpoint.queue.popleft()
                    endpoint.posting += 1
                    self._wait_for_slot(endpoint)
                    post = _Post(endpoint, claim, send_before, self._clock(), slots)
                    slots.posts[post] = None
                    self._watched.notify()
                    return post
        return None

    def _count(self, post: _Post, result: AttemptResult) -> None:
        endpoint = post.endpoint
        del post.slots.posts[post]
        endpoint.posting -= 1
        seconds = self._clock() - post.started_at
        mean = seconds if endpoint.seconds is None else endpoint.seconds
        endpoint.seconds = mean + _WEIGHT * (seconds - mean)
        match health_of(result):
            case EndpointHealth.HEALTHY:
                endpoint.failures = 0
            case EndpointHealth.FAILING:
                endpoint.failures += 1
                self._unsettled_failures.add(endpoint)
        if is_gone(result):
            endpoint.failures = PAUSED_AFTER
            self._unsettled_failures.add(endpoint)
        self._move(endpoint, self._slow if endpoint.seconds >= _SLOW else self._quick)

    def _move(self, endpoint: _Endpoint, slots: _Slots) -> None:
        if endpoint.slots is not slots:
            endpoint.slots.waiting.pop(endpoint, None)
            endpoint.slots = slots
        self._wait_for_slot(endpoint)

    def _watch(self) -> None:
        """Find slow posts, and adjust how many others may be in progress."""
        while not self._closed:
            with self._lock:
                while not (self._closed or self._quick.posts or self._quick.waiting):
                    self._watched.wait()
                begun, used = self._clock(), self._processor_time()
            time.sleep(_TICK)
            with self._lock:
                self._move_slow()
                used = self._processor_time() - used
                self._adjust(used / max(self._clock() - begun, _TICK))
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
