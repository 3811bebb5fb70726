"""The senders of a worker: claimed deliveries in memory, and the threads that post them.

What bounds an endpoint is its concurrency, its rate and its circuit breaker. Endpoints have three
paces by how long they take to respond, and each pace has threads of its own, so that slow endpoints
do not delay others, and few threads run while responses come at once.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from notifier.webhooks.circuit_breaker import PAUSED_AFTER
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.retry_policy import AttemptResult, EndpointHealth, health_of, is_gone
from notifier.worker.batch import Finished

# The most claims that a worker holds: what a crash may send twice.
MAX_CLAIMS, MAX_CLAIMS_PER_ENDPOINT = 256, 128
# Seconds of work for an endpoint that are claimed ahead.
_AHEAD = 0.15
# Finished attempts that are settled without waiting for more.
FULL_BATCH = 64
# Seconds after which an idle thread ends, and between two looks at the posts in progress.
_IDLE, _TICK = 10.0, 0.005
# The weight of the latest response in the mean response time of an endpoint.
_WEIGHT = 0.2


class Pace(Enum):
    """How long an endpoint takes to respond."""

    QUICK = "at once"
    NORMAL = "after more than 5 ms"
    SLOW = "after more than a second"


_NORMAL_FROM, _SLOW_FROM = 0.005, 1.0
# More threads would compete for the interpreter's lock.
_QUICK_THREADS = 2
# The concurrency of a slow endpoint.
_SLOW_CONCURRENCY = 2


def _pace_of(seconds: float) -> Pace:
    if seconds < _NORMAL_FROM:
        return Pace.QUICK
    return Pace.NORMAL if seconds < _SLOW_FROM else Pace.SLOW


@dataclass(eq=False)
class _Endpoint:
    """The claims of an endpoint: to be sent, in progress, and not settled yet.

    `seconds` is the mean response time, None before the first response. `pace` is that of the
    responses, or of a post that is taking longer. `failures` counts those in
    a row that are not settled yet; after `PAUSED_AFTER` nothing is sent until they are. `starts` is
    what is left of the rate, at `counted_at`.
    """

    starts: float
    counted_at: float
    queue: deque[tuple[Claimed, float]] = field(default_factory=deque)
    posting: int = 0
    unsettled: int = 0
    seconds: float | None = None
    pace: Pace = Pace.QUICK
    is_failing: bool = False
    failures: int = 0
    is_ready: bool = False

    @property
    def claims(self) -> int:
        return len(self.queue) + self.posting + self.unsettled


@dataclass(eq=False)
class _Post:
    """A post in progress, and the pace whose thread it uses."""

    endpoint: _Endpoint
    claimed: Claimed
    started_at: float
    pace: Pace


class Senders:
    """Posts claimed deliveries on threads, and collects what has finished.

    `post` makes one attempt. `on_finished` is called with False at the first finished attempt, and
    with True at a full batch and when nothing is left to send. At most `threads` attempts are in
    progress at a time, and as many more that have taken longer than a second. `rate` limits the
    claims per second and endpoint.
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
    ) -> None:
        self._post = post
        self._on_finished = on_finished
        self._threads = threads
        self._per_endpoint = min(threads, per_endpoint)
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._startable = threading.Condition(self._lock)
        self._watched = threading.Condition(self._lock)
        self._endpoints: dict[int, _Endpoint] = {}
        self._ready: dict[Pace, deque[_Endpoint]] = {pace: deque() for pace in Pace}
        self._posts: dict[Pace, dict[_Post, None]] = {pace: {} for pace in Pace}
        self._finished: list[Finished] = []
        self._late: list[Claimed] = []
        self._claims = self._alone = self._idle = 0
        self._quick_first = self._closed = False
        threading.Thread(target=self._watch, name="senders-watch", daemon=True).start()

    @property
    def claims(self) -> int:
        """The number of claims that are not settled or given back."""
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

    def rooms(self, endpoint_ids: Sequence[int]) -> dict[int, int]:
        """Return how many deliveries may be claimed for each endpoint; zero is left out.

        If they are too many in total, each endpoint gets the same, and the last ones one more.
        """
        with self._lock:
            wanted = {one: self._room(self._endpoint(one)) for one in endpoint_ids}
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
            return any(self._endpoint(one).starts < 1 for one in endpoint_ids)

    def put(self, claimed: Sequence[Claimed], *, send_before: float) -> None:
        """Send claimed deliveries; those that are not begun before a time are not sent."""
        with self._lock:
            for one in claimed:
                endpoint = self._endpoint(one.endpoint_id)
                endpoint.queue.append((one, send_before))
                endpoint.starts -= 1
                self._set_ready(endpoint)
                self._alone += one.is_alone
            self._claims += len(claimed)
            self._start_threads()

    def take_finished(self) -> list[Finished]:
        """Return what has finished since the last call; the claims remain until `forget`."""
        with self._lock:
            finished, self._finished = self._finished, []
        return finished

    def withdraw(self, endpoint_ids: Collection[int] | None = None) -> list[Claimed]:
        """Return claims that will not be sent, to be given back; they remain until `forget`.

        Those of some endpoints (None: all), those that wait for a slow endpoint, and those that
        were too late.
        """
        with self._lock:
            withdrawn, self._late = self._late, []
            for endpoint_id, endpoint in self._endpoints.items():
                if endpoint.queue and (
                    endpoint_ids is None
                    or endpoint_id in endpoint_ids
                    or endpoint.pace is Pace.SLOW
                ):
                    withdrawn += [claimed for claimed, _ in endpoint.queue]
                    endpoint.unsettled += len(endpoint.queue)
                    endpoint.queue.clear()
        return withdrawn

    def forget(self, claims: Sequence[Claimed]) -> None:
        """Make room for other claims: these are settled or given back."""
        with self._lock:
            for one in claims:
                endpoint = self._endpoints[one.endpoint_id]
                endpoint.unsettled -= 1
                if not endpoint.unsettled:
                    endpoint.failures = 0
                self._alone -= one.is_alone
            self._claims -= len(claims)

    def close(self) -> None:
        """End the threads after their current posts."""
        with self._lock:
            self._closed = True
            self._startable.notify_all()
            self._watched.notify_all()

    def _endpoint(self, endpoint_id: int) -> _Endpoint:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = _Endpoint(max(1.0, self._rate), self._clock())
            self._endpoints[endpoint_id] = endpoint
        return endpoint

    def _room(self, endpoint: _Endpoint) -> int:
        now = self._clock()
        refilled = endpoint.starts + (now - endpoint.counted_at) * self._rate
        endpoint.starts, endpoint.counted_at = min(refilled, max(1.0, self._rate)), now
        most = concurrency = self._concurrency(endpoint)
        if endpoint.pace is Pace.SLOW:
            return max(0, min(most - endpoint.claims, self._free(Pace.SLOW), int(endpoint.starts)))
        if endpoint.failures >= PAUSED_AFTER:
            return 0
        if endpoint.seconds is not None and not endpoint.is_failing:
            ahead = concurrency * _AHEAD / max(endpoint.seconds, 0.0001)
            most = max(concurrency, min(int(ahead), MAX_CLAIMS_PER_ENDPOINT))
        return max(0, min(most - endpoint.claims, int(endpoint.starts)))

    def _concurrency(self, endpoint: _Endpoint) -> int:
        is_slow = endpoint.pace is Pace.SLOW
        return min(self._per_endpoint, _SLOW_CONCURRENCY) if is_slow else self._per_endpoint

    def _set_ready(self, endpoint: _Endpoint) -> None:
        """Note that an endpoint has something to send, unless it is noted already or must not."""
        if (
            endpoint.queue
            and not endpoint.is_ready
            and endpoint.posting < self._concurrency(endpoint)
            and endpoint.failures < PAUSED_AFTER
        ):
            endpoint.is_ready = True
            self._ready[endpoint.pace].append(endpoint)

    def _free(self, pace: Pace) -> int:
        """Return how many more posts of a pace may start."""
        if pace is Pace.SLOW:
            return self._threads - len(self._posts[Pace.SLOW])
        quick = len(self._posts[Pace.QUICK])
        free = self._threads - quick - len(self._posts[Pace.NORMAL])
        return min(free, _QUICK_THREADS - quick) if pace is Pace.QUICK else free

    def _start_threads(self) -> None:
        needed = sum(
            max(0, min(len(ready), self._free(pace))) for pace, ready in self._ready.items()
        )
        if self._idle:
            self._startable.notify(needed)
        for _ in range(needed - self._idle):
            threading.Thread(target=self._run, name="sender", daemon=True).start()

    def _run(self) -> None:
        post = self._next(None, None)
        while post is not None:
            finished = self._post(post.claimed)
            post = self._next(post, finished)

    def _next(self, done: _Post | None, finished: Finished | None) -> _Post | None:
        """Note what has finished; wait for the next delivery to post, None for the end."""
        if done is not None and finished is not None:
            self._finish(done, finished)
        with self._lock:
            while not self._closed:
                post = self._pick()
                if post is not None:
                    self._start_threads()  # more of the same endpoint may be sent
                    return post
                self._idle += 1
                woken = self._startable.wait(_IDLE)
                self._idle -= 1
                if not woken:
                    break
        return None

    def _pick(self) -> _Post | None:
        self._quick_first = not self._quick_first
        for pace in Pace if self._quick_first else reversed(Pace):
            ready = self._ready[pace]
            while ready and self._free(pace) > 0:
                endpoint = ready.popleft()
                endpoint.is_ready = False
                if endpoint.pace is pace and (claimed := self._pop(endpoint)) is not None:
                    endpoint.posting += 1
                    self._set_ready(endpoint)
                    post = _Post(endpoint, claimed, self._clock(), pace)
                    self._posts[pace][post] = None
                    self._watched.notify()
                    return post
                self._set_ready(endpoint)
        return None

    def _pop(self, endpoint: _Endpoint) -> Claimed | None:
        if endpoint.posting >= self._concurrency(endpoint) or endpoint.failures >= PAUSED_AFTER:
            return None
        while endpoint.queue:
            claimed, send_before = endpoint.queue.popleft()
            if self._clock() < send_before:
                return claimed
            endpoint.unsettled += 1
            self._late.append(claimed)
        return None

    def _finish(self, post: _Post, finished: Finished) -> None:
        with self._lock:
            self._count(post, finished.result)
            self._finished.append(finished)
            number = len(self._finished)
            at_once = number == FULL_BATCH or not (self.posting or any(self._ready.values()))
        if at_once or number == 1:
            self._on_finished(at_once)

    def _count(self, post: _Post, result: AttemptResult) -> None:
        endpoint = post.endpoint
        del self._posts[post.pace][post]
        endpoint.posting -= 1
        endpoint.unsettled += 1
        seconds = self._clock() - post.started_at
        mean = seconds if endpoint.seconds is None else endpoint.seconds
        endpoint.seconds = mean + _WEIGHT * (seconds - mean)
        endpoint.pace = _pace_of(endpoint.seconds)
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
        """Move posts that take long to the next pace, so that others may start."""
        while not self._closed:
            with self._lock:
                while not (self._closed or self._posts[Pace.QUICK] or self._posts[Pace.NORMAL]):
                    self._watched.wait()
                self._move(Pace.QUICK, Pace.NORMAL, _NORMAL_FROM)
                self._move(Pace.NORMAL, Pace.SLOW, _SLOW_FROM)
                self._start_threads()
            time.sleep(_TICK)

    def _move(self, pace: Pace, slower: Pace, after: float) -> None:
        now = self._clock()
        for post in list(self._posts[pace]):
            seconds = now - post.started_at
            if seconds < after or (slower is Pace.SLOW and self._free(Pace.SLOW) <= 0):
                return
            del self._posts[pace][post]
            self._posts[slower][post] = None
            post.pace = slower
            if post.endpoint.pace is pace:
                post.endpoint.pace = slower
