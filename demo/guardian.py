"""The guardian process: stops the demo's processes if the demo is killed."""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


def guard(lines: Iterable[str]) -> None:
    """Read which process groups start (`+7`) and end (`-7`); at the end of input stop the rest.

    The input ends when the demo does, however it ends.
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
