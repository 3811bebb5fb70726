"""The process that starts the others, so that each hears it when they are stopped."""

import signal

from gunicorn.arbiter import Arbiter

from foundation.web.connections import Connections

_ENDINGS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


class Attentive(Connections):
    """A process that hears what was said to it before it could listen."""

    def init_signals(self) -> None:
        """Listen; a signal that waited is heard now."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)


class Attending(Arbiter):
    """Starts processes that miss no signal.

    Until a process listens for itself, it would do with a signal as its parent does: note it for
    a loop that is not its own. Told to stop in that moment, it would go on until it was killed.
    """

    def spawn_worker(self) -> int:
        """Start a process, to which signals wait until it listens."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        try:
            pid: int = super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
        return pid
