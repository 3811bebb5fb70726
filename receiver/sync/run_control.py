"""The control of a run: SIGTERM, its deadline, the renewal of its lease, cancellation."""

import threading
import time
from collections.abc import Sequence
from typing import Protocol, Self

from receiver.runs.lease import RunLease

# Seconds that the requests in progress may still take when a run has to stop.
GRACE_SECONDS = 2.0

_CHECK_SECONDS = 0.2


class StopSignal:
    """Whether a run has to stop: on SIGTERM, at its deadline, or without a lease."""

    def __init__(self, event: threading.Event, seconds: float) -> None:
        self._event = event
        self._ends_at = time.monotonic() + seconds
        self.error: Exception | None = None

    @property
    def stop_requested(self) -> bool:
        """Whether SIGTERM was received."""
        return self._event.is_set()

    @property
    def timed_out(self) -> bool:
        """Whether the run's time is up."""
        return time.monotonic() >= self._ends_at

    @property
    def is_set(self) -> bool:
        """Whether the run has to stop."""
        return self.stop_requested or self.timed_out or self.error is not None

    def wait(self, seconds: float) -> None:
        """Sleep until the run has to stop, but no longer than this."""
        ends_at = time.monotonic() + seconds
        while not self.is_set and (left := ends_at - time.monotonic()) > 0:
            self._event.wait(min(left, _CHECK_SECONDS))

    def raise_error(self) -> None:
        """Raise the error that made the renewal of the lease fail, if any."""
        if self.error is not None:
            raise self.error


class Cancellable(Protocol):
    """A stage of a run that waits for a network."""

    def cancel(self) -> None:
        """Cancel the requests in progress, from any thread, and send no more."""
        ...


class LeaseHeartbeat:
    """A background thread that renews a run's lease, and cancels what outlasts the run.

    It cancels at once if the lease cannot be renewed, otherwise `GRACE_SECONDS` after the signal:
    the run's own thread cannot look at the clock while it waits for a response.
    """

    def __init__(self, lease: RunLease, stop: StopSignal, stages: Sequence[Cancellable]) -> None:
        self._lease = lease
        self._stop = stop
        self._stages = stages
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        stopped_at: float | None = None
        cancelled = False
        while not self._done.wait(_CHECK_SECONDS):
            try:
                self._lease.renew_if_due()
            except Exception as error:  # noqa: BLE001 - the run's own thread raises it
                self._stop.error = error
                self._cancel()
                return
            if self._stop.is_set and not cancelled:
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at >= GRACE_SECONDS:
                    self._cancel()
                    cancelled = True

    def _cancel(self) -> None:
        for stage in self._stages:
            stage.cancel()
