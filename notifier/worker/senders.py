"""The senders of a worker: claimed deliveries in memory, and the threads that post them.

What bounds an endpoint is its concurrency, its rate and its circuit breaker. Slow endpoints have
slots of their own, so that they do not delay others.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from notifier.webhooks.circuit_breaker import PAUSED_AFTER
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import AttemptResult, EndpointHealth, health_of, is_gone

# The most claims that a worker holds: what a crash may send twice.
MAX_CLAIMS = 256
# Seconds of work for an endpoint that are claimed ahead.
_SECONDS_AHEAD = 0.15
# Finished attempts that are settled without waiting for more, once no more than these are left to
# send, which are sent meanwhile.
FULL_BATCH = 64
# Seconds after which an idle thread ends, and between two looks at the posts in progress.
_IDLE, _TICK = 10.0, 0.02
# The weight of the latest response in the mean response time of an endpoint.
_WEIGHT = 0.2
# Seconds after which a post is slow, and an endpoint with this mean response time.
_SLOW = 0.3
# Slow posts at once, and the number from which each slow endpoint may have only a few of them. A
# post that waits costs about 100 kB.
_SLOW_POSTS, _MANY_SLOW_POSTS, _POSTS_OF_A_SLOW_ENDPOINT = 128, 32, 2
# Posts at once in the beginning. There are more where posts take longer than `_QUICK` seconds, as
# long as this process uses less than a part of a core, and fewer while it uses nearly a whole one:
# they would only compete for the interpreter's lock.
_FIRST_POSTS, _QUICK, _GROW_BELOW, _SHRINK_ABOVE = 2, 0.001, 0.8, 0.9


@dataclass(eq=False)
class _Endpoint:
    """The claims of an endpoint: to be sent, in progress, finished, and taken to be settled.

    `seconds` is the mean response time, None before the first response. `failures` counts those in
    a row that are not settled yet; after `PAUSED_AFTER` nothing is sent until they are. `allowance`
    is how many claims its rate permits, at `counted_at`.
    """

    allowance: float
    counted_at: float
    queue: deque[tuple[Claimed, float]] = field(default_factory=deque)
    posting: int = 0
    finished: int = 0
    settling: int = 0
    seconds: float | None = None
    is_slow: bool = False
    is_failing: bool = False
    failures: int = 0
    is_ready: bool = False

    @property
    def claims(self) -> int:
        return len(self.queue) + self.posting + self.finished


@dataclass(eq=False)
class _Post:
    """A post in progress; a slow one uses a slot for slow ones."""

    endpoint: _Endpoint
    claimed: Claimed
    started_at: float
    is_slow: bool


class Senders:
    """Posts claimed deliveries on threads, and collects what has finished.

    `post` makes one attempt. `on_finished` is called with False at the first finished attempt, and
    with True at a full batch and when nothing is left to send. At most `threads` attempts are in
    progress at a time, and up to 128 more that have taken longer than 0.3 seconds. `rate` limits
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
        self._endpoints: dict[int, _Endpoint] = {}
        # Posts that threads are to make, and the number of threads that wait for one.
        self._handed: queue.SimpleQueue[_Post | None] = queue.SimpleQueue()
        self._idle = 0
        # By whether they are slow.
        self._ready: dict[bool, deque[_Endpoint]] = {False: deque(), True: deque()}
        self._posts: dict[bool, dict[_Post, None]] = {False: {}, True: {}}
        self._limit = min(threads, _FIRST_POSTS)
        self._seconds = 0.0
        self._finished: list[Finished] = []
        self._late: list[Claimed] = []
        self._claims = self._alone = 0
        self._is_full = self._closed = False
        threading.Thread(target=self._watch, name="senders-watch", daemon=True).start()

    @property
    def claims(self) -> int:
        """The number of claims that were not taken yet to be settled or given back."""
        return self._claims

    @property
    def posting(self) -> int:
        """The number of attempts in progress."""
        return sum(map(len, self._posts.values()))

    @property
    def sends_alone(self) -> bool:
        """Whether one of the claims may be what ended earlier workers."""
        return self._alone > 0

    def queued_endpoints(self) -> set[int]:
        """Return the endpoints with claims that are still to be sent."""
        with self._lock:
            return {one for one, endpoint in self._endpoints.items() if endpoint.queue}

    def wanted(self, endpoint_ids: Sequence[int]) -> dict[int, int]:
        """Return how many deliveries may be claimed for each endpoint; zero is left out.

        If they are too many in total, each endpoint gets the same, and the last ones one more.
        """
        with self._lock:
            wanted, slow = {}, self._free(is_slow=True)
            for endpoint_id in endpoint_ids:
                endpoint = self._endpoint(endpoint_id)
                room = self._room(endpoint)
                if endpoint.is_slow:  # they share what is left of the slots
                    room = min(room, max(0, slow))
                    slow -= room
                wanted[endpoint_id] = room
            left = MAX_CLAIMS - self._claims
        rooms = {}
        by_size = sorted(wanted.items(), key=lambda item: item[1])
        for remaining, (endpoint_id, room) in zip(range(len(by_size), 0, -1), by_size, strict=True):
            given = min(room, left // remaining)
            left -= given
            if given > 0:
                rooms[endpoint_id] = given
        return rooms

    def is_throttled(self, endpoint_ids: Iterable[int]) -> bool:
        """Return True if the rate of one of the endpoints allows no claim now."""
        with self._lock:
            return any(self._endpoint(one).allowance < 1 for one in endpoint_ids)

    def put(self, claimed: Sequence[Claimed], *, send_before: float) -> None:
        """Send claimed deliveries; those that are not begun before a time are not sent."""
        with self._lock:
            for one in claimed:
                endpoint = self._endpoint(one.endpoint_id)
                endpoint.queue.append((one, send_before))
                endpoint.allowance -= 1
                self._set_ready(endpoint)
                self._alone += one.is_alone
            self._claims += len(claimed)
            self._hand_out()

    def take_finished(self) -> list[Finished]:
        """Return what has finished since the last call, to be settled; then call `mark_settled`."""
        with self._lock:
            finished, self._finished, self._is_full = self._finished, [], False
            for one in finished:
                endpoint = self._endpoints[one.claimed.endpoint_id]
                endpoint.finished -= 1
                endpoint.settling += 1
            self._claims -= len(finished)
        return finished

    def withdraw(self, endpoint_ids: Collection[int] | None = None) -> list[Claimed]:
        """Return claims that will not be sent, to be given back; then call `mark_settled`.

        Those of some endpoints (None: all), those that wait for a slow endpoint, and those that
        were too late.
        """
        with self._lock:
            withdrawn, self._late = self._late, []
            for endpoint_id, endpoint in self._endpoints.items():
                if endpoint.queue and (
                    endpoint_ids is None or endpoint_id in endpoint_ids or endpoint.is_slow
                ):
                    withdrawn += [claimed for claimed, _ in endpoint.queue]
                    endpoint.allowance += len(endpoint.queue)
                    endpoint.settling += len(endpoint.queue)
                    endpoint.queue.clear()
            self._claims -= len(withdrawn)
        return withdrawn

    def mark_settled(self, claims: Sequence[Claimed]) -> None:
        """Note that claims are settled or given back, and the state of their endpoints with it."""
        with self._lock:
            for one in claims:
                endpoint = self._endpoints[one.endpoint_id]
                endpoint.settling -= 1
                if not (endpoint.settling or endpoint.finished):
                    endpoint.failures = 0
                    self._set_ready(endpoint)
                self._alone -= one.is_alone
            self._hand_out()

    def close(self) -> None:
        """End the threads after their current posts."""
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._handed.put(None)
            self._watched.notify_all()

    def _endpoint(self, endpoint_id: int) -> _Endpoint:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = _Endpoint(max(1.0, self._rate), self._clock())
            self._endpoints[endpoint_id] = endpoint
        return endpoint

    def _room(self, endpoint: _Endpoint) -> int:
        now = self._clock()
        refilled = endpoint.allowance + (now - endpoint.counted_at) * self._rate
        endpoint.allowance, endpoint.counted_at = min(refilled, max(1.0, self._rate)), now
        most = concurrency = self._concurrency(endpoint)
        if endpoint.failures >= PAUSED_AFTER:
            return 0
        if endpoint.seconds is not None and not (endpoint.is_slow or endpoint.is_failing):
            most = max(most, int(concurrency * _SECONDS_AHEAD / max(endpoint.seconds, 0.0001)))
        return max(0, min(most - endpoint.claims, int(endpoint.allowance)))

    def _concurrency(self, endpoint: _Endpoint) -> int:
        is_limited = endpoint.is_slow and len(self._posts[True]) >= _MANY_SLOW_POSTS
        return (
            min(self._per_endpoint, _POSTS_OF_A_SLOW_ENDPOINT) if is_limited else self._per_endpoint
        )

    def _set_ready(self, endpoint: _Endpoint) -> None:
        """Note that an endpoint has something to send, unless it is noted already or must not."""
        if (
            endpoint.queue
            and not endpoint.is_ready
            and endpoint.posting < self._concurrency(endpoint)
            and endpoint.failures < PAUSED_AFTER
        ):
            endpoint.is_ready = True
            self._ready[endpoint.is_slow].append(endpoint)

    def _free(self, *, is_slow: bool) -> int:
        """Return how many more posts may start."""
        return (_SLOW_POSTS if is_slow else self._limit) - len(self._posts[is_slow])

    def _hand_out(self) -> None:
        """Give posts that may start to threads that wait, or to new ones."""
        while any(ready and self._free(is_slow=slow) > 0 for slow, ready in self._ready.items()):
            if not self._idle:
                try:
                    threading.Thread(target=self._run, name="sender", daemon=True).start()
                except RuntimeError:  # the system has no more threads: those that run go on
                    return
                self._idle += 1
            post = self._pick()
            if post is None:
                return
            self._idle -= 1
            self._handed.put(post)

    def _run(self) -> None:
        post = self._wait()
        while post is not None:
            finished = self._post(post.claimed)
            post = self._next(post, finished) or self._wait()

    def _wait(self) -> _Post | None:
        """Wait for a post, return None if there is none for long."""
        try:
            return self._handed.get(timeout=_IDLE)
        except queue.Empty:
            with self._lock:
                if self._handed.empty():
                    self._idle -= 1
                    return None
        return self._handed.get()

    def _next(self, done: _Post, finished: Finished) -> _Post | None:
        """Note what has finished; return the next post of this thread, which else is idle."""
        with self._lock:
            self._count(done, finished.result)
            self._finished.append(finished)
            number, posting = len(self._finished), self.posting
            post = None if self._closed else self._pick()
            queued = self._claims - posting - number
            is_full = number >= max(FULL_BATCH, queued) or not (post or posting)
            is_first_full, self._is_full = is_full and not self._is_full, is_full
            if post is None:
                self._idle += 1
                if self._closed:
                    self._handed.put(None)
            else:
                self._hand_out()  # more of the same endpoint may be sent
        if is_first_full or number == 1:
            self._on_finished(is_full)
        return post

    def _pick(self) -> _Post | None:
        for is_slow in (False, True, False):  # one that is no longer slow changes sides
            ready = self._ready[is_slow]
            while ready and self._free(is_slow=is_slow) > 0:
                endpoint = ready.popleft()
                endpoint.is_ready = False
                claimed = self._pop(endpoint) if endpoint.is_slow is is_slow else None
                if claimed is not None:
                    endpoint.posting += 1
                self._set_ready(endpoint)
                if claimed is not None:
                    post = _Post(endpoint, claimed, self._clock(), is_slow)
                    self._posts[is_slow][post] = None
                    self._watched.notify()
                    return post
        return None

    def _pop(self, endpoint: _Endpoint) -> Claimed | None:
        if endpoint.posting >= self._concurrency(endpoint) or endpoint.failures >= PAUSED_AFTER:
            return None
        while endpoint.queue:
            claimed, send_before = endpoint.queue.popleft()
            if self._clock() < send_before:
                return claimed
            endpoint.settling += 1
            self._late.append(claimed)
        return None

    def _count(self, post: _Post, result: AttemptResult) -> None:
        endpoint = post.endpoint
        del self._posts[post.is_slow][post]
        endpoint.posting -= 1
        endpoint.finished += 1
        seconds = self._clock() - post.started_at
        mean = seconds if endpoint.seconds is None else endpoint.seconds
        endpoint.seconds = mean + _WEIGHT * (seconds - mean)
        self._seconds += _WEIGHT * (seconds - self._seconds)
        endpoint.is_slow = endpoint.seconds >= _SLOW
        match health_of(result):
            case EndpointHealth.HEALTHY:
                endpoint.is_failing, endpoint.failures = False, 0
            case EndpointHealth.FAILING:
                endpoint.is_failing = True
                endpoint.failures += 1
        if is_gone(result):
            endpoint.failures = PAUSED_AFTER
        self._set_ready(endpoint)

    def _watch(self) -> None:
        """Find slow posts, and adjust how many may be in progress."""
        while not self._closed:
            with self._lock:
                while not (self._closed or self._posts[False]):
                    self._watched.wait()
                begun, used = self._clock(), self._processor_time()
            time.sleep(_TICK)
            with self._lock:
                self._move_slow()
                used = self._processor_time() - used
                self._adjust(used / max(self._clock() - begun, _TICK))
                self._hand_out()

    def _move_slow(self) -> None:
        before = self._clock() - _SLOW
        for post in list(self._posts[False]):
            if post.started_at > before or self._free(is_slow=True) <= 0:
                return
            del self._posts[False][post]
            self._posts[True][post] = None
            post.is_slow = post.endpoint.is_slow = True

    def _adjust(self, cores_used: float) -> None:
        if cores_used > _SHRINK_ABOVE:
            self._limit = max(1, self._limit - max(1, self._limit // 8))
        elif cores_used < _GROW_BELOW and self._ready[False] and self._waits():
            self._limit = min(self._threads, self._limit + max(1, self._limit // 2))

    def _waits(self) -> bool:
        """Return True if posts take long, or one has for the whole time since the last look."""
        oldest = next(iter(self._posts[False]), None)
        is_waiting = oldest is not None and self._clock() - oldest.started_at >= _TICK
        return is_waiting or self._seconds > _QUICK
