"""`python -m demo`: the story in about a minute; exit 0 only if every step was seen to happen."""

import sys
import tempfile
import time
from pathlib import Path

from demo.processes import ProcessError, machines
from demo.story import Story
from demo.teller import StoryError

_LAST_LINES = 8


def main() -> int:
    """Tell the story in a temporary folder, clean up, and return the exit code."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="course-webhooks-") as folder:
        try:
            with machines(Path(folder)) as both:
                Story(both, lambda line: print(line, flush=True)).tell()
        except (StoryError, ProcessError) as error:
            print(f"\nthe story broke off: {error}", file=sys.stderr)
            _print_logs(Path(folder))
            return 1
    print(f"\nAll of it was seen to happen, in {time.monotonic() - started:.0f} seconds.")
    return 0


def _print_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        last = log.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:]
        print(f"\n{log.name} ends with:", *last, sep="\n  ", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
