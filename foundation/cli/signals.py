"""Signals that ask a process to stop."""

import signal
from collections.abc import Callable
from types import FrameType


def on_stop(
    stop: Callable[[str], None],
    *,
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Call `stop` with the name of the first of the signals; the next one ends the process."""

    def handle(number: int, _: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        stop(signal.Signals(number).name)

    for each in signals:
        signal.signal(each, handle)
