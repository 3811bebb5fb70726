"""`python -m demo`: the story in about a minute; exit 0 only if every step was seen to happen."""

import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from demo.processes import ProcessError, machines
from demo.staying import Staying
from demo.story import Story
from demo.teller import StoryError

_LAST_LINES = 8
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@click.command()
@click.option(
    "--stay",
    is_flag=True,
    help="Let both services run when the story is told, with a sign-in to their pages, "
    "until Ctrl-C.",
)
def main(*, stay: bool) -> None:
    """Tell the whole story on real processes: two services, a worker, and a Moodle.

    Exits 0 only if every step was seen to happen; all that it started is stopped at the end.
    """
    with tempfile.TemporaryDirectory(prefix="course-webhooks-") as folder:
        sys.exit(_tell(Path(folder), stay=stay))


def _tell(folder: Path, *, stay: bool) -> int:
    """Tell the story, and return the exit code when nothing of it runs any more."""
    for one in _ENDINGS:
        signal.signal(one, signal.default_int_handler)
    told = False
    try:
        with machines(folder) as both:
            try:
                _tell_story(Story(both, _say))
                told = True
                if stay:
                    Staying(both, _say).stay()
            except KeyboardInterrupt:
                _say("\nstopping all of it …")
                raise
            finally:
                # What is started has to be stopped, however often somebody asks meanwhile.
                for one in _ENDINGS:
                    signal.signal(one, signal.SIG_IGN)
    except (StoryError, ProcessError) as error:
        print(f"\nthe story broke off: {error}", file=sys.stderr)
        _print_logs(folder)
        return 1
    except KeyboardInterrupt:
        _say("All is stopped." if told else "the story broke off: it was told to stop")
        return 0 if told else 1
    return 0


def _tell_story(story: Story) -> None:
    started = time.monotonic()
    story.tell()
    _say(f"\nAll of it was seen to happen, in {time.monotonic() - started:.0f} seconds.")


def _say(line: str) -> None:
    print(line, flush=True)


def _print_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        last = log.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:]
        print(f"\n{log.name} ends with:", *last, sep="\n  ", file=sys.stderr)


if __name__ == "__main__":
    main(prog_name="python -m demo")
