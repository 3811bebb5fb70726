"""`python -m demo`: the story in about a minute; exit code 0 only if every check passed."""

import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from demo.narrator import StoryError
from demo.processes import ProcessError, machines
from demo.staying import Staying
from demo.story import Story

_LAST_LINES = 8
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@click.command()
@click.option(
    "--stay",
    is_flag=True,
    help="Keep both services running after the story, with a temporary login, until Ctrl-C.",
)
def main(*, stay: bool) -> None:
    """Run the whole story on real processes: two services, a worker, and a Moodle.

    Exit code 0 only if every check passed. All processes are stopped at the end.
    """
    with tempfile.TemporaryDirectory(prefix="course-webhooks-") as folder:
        sys.exit(_run(Path(folder), stay=stay))


def _run(folder: Path, *, stay: bool) -> int:
    """Run the story, stop all processes, and return the exit code."""
    for one in _ENDINGS:
        signal.signal(one, signal.default_int_handler)
    finished = False
    try:
        with machines(folder) as both:
            try:
                _run_story(Story(both, _say))
                finished = True
                if stay:
                    Staying(both, _say).stay()
            except KeyboardInterrupt:
                _say("\nStopping all processes …")
                raise
            finally:
                # The processes must be stopped, however often Ctrl-C is pressed meanwhile.
                for one in _ENDINGS:
                    signal.signal(one, signal.SIG_IGN)
    except (StoryError, ProcessError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        _print_logs(folder)
        return 1
    except KeyboardInterrupt:
        _say("All processes are stopped." if finished else "The demo was stopped before its end.")
        return 0 if finished else 1
    return 0


def _run_story(story: Story) -> None:
    started = time.monotonic()
    story.run()
    _say(f"\nAll checks passed in {time.monotonic() - started:.0f} seconds.")


def _say(line: str) -> None:
    print(line, flush=True)


def _print_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        last = log.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:]
        print(f"\n{log.name} ends with:", *last, sep="\n  ", file=sys.stderr)


if __name__ == "__main__":
    main(prog_name="python -m demo")
