"""A grade sync in a process of its own, for the pages: it would slow down the server."""

import subprocess
import sys
from threading import Thread

from foundation import logging

_log = logging.get_logger(__name__)


def start(requested_by: str) -> None:
    """Start a run of all courses, also while the schedule is paused, and return at once.

    It has the settings of this process, and its log goes where the log of this process goes.
    """
    # -P: modules are not searched in the working directory.
    command = (sys.executable, "-P", "-m", "receiver", "sync-grades", "--even-if-paused")
    process = subprocess.Popen(  # noqa: S603 - our own command, and no shell
        [*command, f"--requested-by={requested_by}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _log.info("grade sync requested", user=requested_by)
    # Otherwise the ended process would stay in the process table.
    Thread(target=process.wait, name="requested sync", daemon=True).start()
