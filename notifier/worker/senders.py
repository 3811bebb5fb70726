"""The senders of a worker: claimed deliveries in memory, and the threads that post them.

A claim is queued, posted and finished here, or left unsent: it is queued for an endpoint that turns
slow or must wait, or cannot begin in time. What bounds an endpoint is its concurrency, its rate and
its circuit breaker. Slow endpoints have slots of their own, so that they do not delay others.
"""

import math
import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from notifier.webhooks.circuit_breaker import PAUSED_AFTER, pauses_at_once
from notifier.webhooks.deliveries import Claimed, Finished
from notifier.webhooks.retry_policy import is_healthy

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
# Seconds after which a post is slow, and the mean response time from which an endpoint is. The
# first post of an endpoint is slow sooner, because many new ones may be silent.
_SLOW, _FIRST_SLOW = 0.3, 0.02
# Slow posts at once, each of which costs about 100 kB. A slow endpoint may have one of them per
# 128 that are free, so at most four.
_SLOW_POSTS, _FREE_PER_POST = 512, 128
# Quick posts at once in the beginning. There are more while this process uses less than this part
# of a core, fewer while it uses more than that: they would only compete for the interpreter's lock.
_FIRST_POSTS, _GROW_BELOW, _SHRINK_ABOVE = 2, 0.8, 0.9


@dataclass(eq=False)
class _Endpoint:
    """An endpoint: what is queued for it, how many posts are in progress, and what is known.

    `failures` counts those in a row. At `PAUSED_AFTER` nothing is sent before they are settled,
    because the endpoint may be paused then. If it is not, the number goes on one below, where it
    also begins. `seconds` is the mean response time, 0 if unknown. The rate permits a post at
    `next_at`, and a second's worth in advance.
    """

    queue: "deque[_Post]" = field(default_factory=deque)
    posting: int = 0
    failures: int = PAUSED_AFTER - 1
    seconds: float = 0.0
    next_at: float = -math.inf

    @property
    def is_slow(self) -> bool:
        return self.seconds >= _SLOW


@dataclass(eq=False)
class _Post:
    """The post of a claim, queued or in progress; it is only sent if it begins before a time."""

    endpoint: _Endpoint
    claimed: Claimed
    send_before: float


@dataclass(eq=False)
class Senders:
    """Posts claimed deliveries on threads, and collects what has finished.

    `post` makes one attempt. `on_finished` is called with False at the first finished attempt, and
    with True at a full batch and when nothing is in progress. At most `threads` attempts are in
    progress at a time, and up to 512 more that are slow: they have taken longer than 0.3 seconds,
    or 0.02 for a new endpoint, or their endpoint is. `rate` limits the attempts per second and
    endpoint. `claims` is the number of claims held: queued, posting, or not taken yet.
    """

    post: Callable[[Claimed], Finished]
    on_finished: Callable[[bool], None]
    threads: int
    per_endpoint: int
    rate: float
    clock: Callable[[], float] = time.monotonic
    processor_time: Callable[[], float] = time.process_time
    claims: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.per_endpoint = min(self.threads, self.per_endpoint)
        self._lock = threading.Condition()  # notified when there is something to watch, or the end
        self._endpoints: defaultdict[int, _Endpoint] = defaultdict(_Endpoint)
        # Posts in progress, the quick ones with the time when each began.
        self._quick: dict[_Post, float] = {}
        self._slow: set[_Post] = set()
        self._most_quick = min(self.threads, _FIRST_POSTS)
        # Endpoints with something queued: those that may post, in turn, and those over their rate.
        self._waiting: OrderedDict[_Endpoint, None] = OrderedDict()
        self._throttled: list[_Endpoint] = []
        self._finished: list[Finished] = []
        self._unsent: list[Claimed] = []
        self._closed = False
        threading.Thread(target=self._watch, name="senders-watch", daemon=True).start()

    @property
    def posting(self) -> int:
        """The number of attempts in progress."""
        return len(self._quick) + len(self._slow)

    def wanted(self, due: Mapping[int, bool]) -> dict[int, int]:
        """Return how many deliveries may be claimed for endpoints; zero is left out.

        If they are too many in total, those that want most get equal shares of what is left, and
        the last ones get none. An endpoint is True if it has been paused since its last success.
        """
        numbers: dict[int, int] = {}
        with self._lock:
            left = MAX_CLAIMS - self.claims + len(self._slow)
            for endpoint_id, was_paused in due.items():
                endpoint = self._endpoints[endpoint_id]
                if was_paused:  # maybe because of failures that others saw
                    endpoint.failures = max(endpoint.failures, PAUSED_AFTER - 1)
                number = self._wanted(endpoint)
                if number > 0 and len(numbers) < left:
                    numbers[endpoint_id] = number
        wanted = {}
        for endpoint_id in sorted(numbers, key=numbers.__getitem__):
            share = left // len(numbers)
            wanted[endpoint_id] = min(numbers.pop(endpoint_id), share)
            left -= wanted[endpoint_id]
        return wanted

    def put(self, claimed: Sequence[Claimed], *, send_before: float) -> None:
        """Send claimed deliveries; those that are not begun before a time are not sent."""
        with self._lock:
            for claim in claimed:
                endpoint = self._endpoints[claim.endpoint_id]
                endpoint.queue.append(_Post(endpoint, claim, send_before))
                self._wait_for_turn(endpoint)
            self.claims += len(claimed)
            self._start_posts()
            self._lock.notify_all()

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
            self.claims -= len(finished) + len(unsent)
        return finished, unsent

    def mark_settled(self, finished: Sequence[Finished]) -> None:
        """Note that what was taken is settled, and the state of the endpoints with it."""
        with self._lock:
            settled = {attempt.claimed.endpoint_id for attempt in finished}
            for endpoint_id in settled - {one.claimed.endpoint_id for one in self._finished}:
                endpoint = self._endpoints[endpoint_id]
                endpoint.failures = min(endpoint.failures, PAUSED_AFTER - 1)

    def close(self) -> None:
        """End the threads after their current posts."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _wanted(self, endpoint: _Endpoint) -> int:
        most = self._concurrency(endpoint)
        if not (endpoint.failures or endpoint.is_slow):
            per_second = min(self.per_endpoint / max(endpoint.seconds, 0.0001), self.rate)
            most = max(most, int(per_second * _SECONDS_AHEAD))
        return most - endpoint.posting - len(endpoint.queue)

    def _concurrency(self, endpoint: _Endpoint) -> int:
        """Return how many posts an endpoint may have; one while the next failure may pause it."""
        if endpoint.failures >= PAUSED_AFTER:
            return 0
        most = 1 if endpoint.failures == PAUSED_AFTER - 1 else self.per_endpoint
        if endpoint.is_slow:
            most = min(most, math.ceil((_SLOW_POSTS - len(self._slow)) / _FREE_PER_POST))
        return most

    def _wait_for_turn(self, endpoint: _Endpoint) -> None:
        if endpoint.queue:
            self._waiting[endpoint] = None
            if endpoint.is_slow:  # has slots of its own, so that it need not wait
                self._waiting.move_to_end(endpoint, last=False)

    def _leave_unsent(self, endpoint: _Endpoint) -> None:
        self._unsent += [post.claimed for post in endpoint.queue]
        endpoint.queue.clear()
        self._waiting.pop(endpoint, None)

    def _start_posts(self) -> None:
        """Start what may be posted now, on other threads."""
        while (post := self._begin_next()) is not None:
            try:
                threading.Thread(target=self._run, args=(post,), name="sender", daemon=True).start()
            except RuntimeError:  # the system has no more threads now
                self._unsent.append(post.claimed)
                self._end(post)
                return

    def _run(self, post: _Post | None) -> None:
        """Make a post, and then others as long as there are some."""
        while post is not None:
            finished = self.post(post.claimed)
            with self._lock:
                self._end(post)
                self._record(post.endpoint, finished)
                post = self._begin_next()
                self._start_posts()  # more of the same endpoint may be sent
                number = len(self._finished)
                queued = self.claims - self.posting - number
                is_full = number >= max(_FULL_BATCH, queued) or not self.posting
            if is_full or number == 1:
                self.on_finished(is_full)

    def _begin_next(self) -> _Post | None:
        """Return a post that begins now, of the endpoint whose turn it is."""
        now = self.clock()
        while self._waiting and not self._closed:
            endpoint = next(iter(self._waiting))
            if not endpoint.is_slow and len(self._quick) >= self._most_quick:
                break
            del self._waiting[endpoint]
            most = self._concurrency(endpoint)
            has_room = endpoint.posting < most
            has_to_wait = not has_room and (endpoint.is_slow or most == 0)  # for a whole slow post
            if has_to_wait or now >= endpoint.queue[0].send_before:
                self._leave_unsent(endpoint)
            elif has_room and endpoint.next_at >= now:
                self._throttled.append(endpoint)
            elif has_room:
                return self._begin(endpoint, now)
        return None

    def _begin(self, endpoint: _Endpoint, now: float) -> _Post:
        post = endpoint.queue.popleft()
        endpoint.posting += 1
        endpoint.next_at = max(endpoint.next_at, now - 1) + 1 / self.rate
        if endpoint.is_slow:
            self._slow.add(post)
        else:
            self._quick[post] = now
        self._wait_for_turn(endpoint)
        return post

    def _end(self, post: _Post) -> None:
        self._quick.pop(post, None)
        self._slow.discard(post)
        post.endpoint.posting -= 1

    def _record(self, endpoint: _Endpoint, finished: Finished) -> None:
        """Note a result, and what it says about its endpoint."""
        self._finished.append(finished)
        seconds = max(finished.milliseconds, 1) / 1000  # 0 is unknown
        mean = endpoint.seconds or seconds
        endpoint.seconds = mean + _WEIGHT * (seconds - mean)
        if pauses_at_once(finished.result, now=finished.started_at):
            endpoint.failures = PAUSED_AFTER
        elif (healthy := is_healthy(finished.result)) is not None:
            endpoint.failures = 0 if healthy else endpoint.failures + 1
        self._wait_for_turn(endpoint)

    def _watch(self) -> None:
        """Find slow posts, let throttled ones begin, and adjust how many may be in progress."""
        while not self._closed:
            with self._lock:
                self._lock.wait_for(lambda: self.claims or self._closed)
            begun, used = self.clock(), self.processor_time()
            time.sleep(_TICK)
            with self._lock:
                self._find_slow()
                used = self.processor_time() - used
                self._adjust(used / max(self.clock() - begun, _TICK))
                while self._throttled:
                    self._wait_for_turn(self._throttled.pop())
                self._start_posts()

    def _find_slow(self) -> None:
        now = self.clock()
        for post, begun in list(self._quick.items()):
            endpoint, seconds = post.endpoint, now - begun
            slow = _SLOW if endpoint.seconds else _FIRST_SLOW
            if seconds >= slow and len(self._slow) < _SLOW_POSTS:
                del self._quick[post]
                self._slow.add(post)
                endpoint.seconds = max(endpoint.seconds, seconds)
                self._wait_for_turn(endpoint)

    def _adjust(self, cores_used: float) -> None:
        if cores_used > _SHRINK_ABOVE:
            self._most_quick = max(1, self._most_quick * 7 // 8)
        elif cores_used < _GROW_BELOW and self._waiting:
            self._most_quick = min(self.threads, math.ceil(self._most_quick * 1.5))
