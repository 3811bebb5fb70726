"""Imported by the fork server alone, which ends with the process that started it.

multiprocessing's own pipe does not do that, because every forked command holds an end of it.
"""

import ctypes
import os
import signal

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)
_SERVER = os.getpid()


def die_with_parent() -> None:
    """Let this process end with its parent; end now if a forked command has lost the server."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getpid() != _SERVER and os.getppid() != _SERVER:
        os._exit(1)


die_with_parent()
