"""After the story: both services keep running with a temporary login, and ELMS keeps syncing."""

import secrets
import shlex
import time
from dataclasses import dataclass, field

from demo.narrator import Narrator
from demo.processes import SCRIPTS

NAME = "Ada"
SYNCS_EVERY = "15s"
_LOOKS_EVERY = 0.2

_INVITATION = """
  eAssessment   {eassessment}
  ELMS          {elms}
  name          {name}
  password      {password}

  Sign in to both. Delete a course on eAssessment's page Courses: a moment later ELMS's Registry
  shows it. Regenerate the token of another, and enter the new one in the Registry.
  ELMS syncs every {every}; its page Runs shows which courses were skipped, and why.
  To run commands of both services in another terminal:

    cd {folder}
    {receiver} sync-grades

  Press Ctrl-C here to stop everything and delete the folder."""


@dataclass
class Staying(Narrator):
    """The time after the story, until Ctrl-C."""

    password: str = field(default_factory=lambda: secrets.token_hex(8))

    def stay(self) -> None:
        """Add a user and wait until interrupted; raise ProcessError if a service ends."""
        self._open()
        while True:
            self.both.check_all_run()
            time.sleep(_LOOKS_EVERY)

    def _open(self) -> None:
        self.title("Both services keep running")
        self.show_both(
            ("notifier", "users", "add", NAME),
            ("receiver", "users", "add", NAME),
            stdin=(self.password, self.password),
        )
        self.show("notifier", "endpoints", "enable", "1")
        sync = ("receiver", "sync-grades", "--every", SYNCS_EVERY)
        self.both.start("sync", *sync)
        self.say(f"\n  $ {shlex.join(sync)}")
        self.both.keep_settings()
        self.say(
            _INVITATION.format(
                eassessment=self.both.eassessment_url,
                elms=self.both.elms_url,
                name=NAME,
                password=self.password,
                every=SYNCS_EVERY.replace("s", " seconds"),
                folder=shlex.quote(str(self.both.folder)),
                receiver=shlex.quote(str(SCRIPTS / "receiver")),
            )
        )
