"""Imported by the fork server alone: it ends with the process that started it.

multiprocessing's own pipe does not do that, because every forked command holds an end of it.
"""

import ctypes
import signal

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)

ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
