"""The base class of refusals, with advice."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contract.problems import ProblemType


@dataclass(frozen=True)
class Advice:
    """What to do next: a sentence for any reader, and the command that does it if there is one.

    `action` is a command without the name of its program, as in `courses add`. A terminal shows it
    as a command, a page as a link to where the same is done, JSON as a field of its own.
    """

    text: str
    action: str | None = None
    args: tuple[str, ...] = ()

    @property
    def command(self) -> str | None:
        """The action with its arguments, quoted for a shell, without the name of the program."""
        return self.action and " ".join((self.action, *map(shlex.quote, self.args)))

    def fill(self, placeholder: str, value: str) -> "Advice":
        """Return the advice with a value in place of an argument such as `COURSE_ID`."""
        args = tuple(value if arg == placeholder else arg for arg in self.args)
        return replace(self, args=args)


def fields_of(advice: Advice | None) -> dict[str, str | None]:
    """Return an advice as the two fields that JSON and log records have for it."""
    if advice is None:
        return {"next_step": None, "action": None}
    return {"next_step": advice.text, "action": advice.command}


class Refusal(Exception):  # noqa: N818 - the base class; each refusal that is raised ends in Error
    """A request that is refused: `str()` says what and why, `advice` what to do about it.

    `problem` is its type in HTTP responses, or None if no route raises it. `facts` is evidence that
    may be shown to the requester; it never holds a secret.
    """

    problem: ProblemType | None = None
    advice = Advice("Fix what the message names, then try again.")

    def __init__(self, detail: str, *, advice: Advice | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.facts = facts
        self.advice = advice or type(self).advice


class ConfigurationError(Refusal):
    """Settings are missing or invalid; the message names all of them."""

    advice = Advice(
        "Set what is named in the environment or in .env; .env.example explains each one."
    )


class DatabaseSetupError(Refusal):
    """The database has another schema or encoding than this program needs, or takes no writes.

    `file` is the SQLite file; it is only shown on the command line.
    """

    def __init__(
        self, detail: str, *, advice: Advice | None = None, file: Path | None = None
    ) -> None:
        super().__init__(detail, advice=advice)
        self.file = file


class DecryptionError(Refusal):
    """A stored secret cannot be decrypted."""

    problem = ProblemType.INTERNAL_ERROR
    advice = Advice("Add the key that encrypted it to the list of encryption keys again.")
