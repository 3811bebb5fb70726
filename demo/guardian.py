"""The guardian: ends what the demo started if the demo is killed and cannot do it itself."""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


def guard(lines: Iterable[str]) -> None:
    """Read which process groups begin (`+7`) and are over (`-7`); at the end, end those left.

    The end of the lines is the end of the demo, whatever ended it.
    """
    left: set[int] = set()
    for line in lines:
        group = int(line[1:])
        if line[0] == "+":
            left.add(group)
        else:
            left.discard(group)
    for group in left:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)


if __name__ == "__main__":
    guard(sys.stdin)
