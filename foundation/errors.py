"""The root of what a service refuses."""

from pathlib import Path
from typing import Any, ClassVar


class Refusal(Exception):  # noqa: N818 - the word that the code reads by
    """Something was refused: `str()` says what and why, `next_step` what to do about it.

    `facts` is evidence that may be shown to whoever asked; it never holds a secret.
    """

    next_step: ClassVar[str] = "Read the detail, mend what it names, and try again."

    def __init__(self, detail: str, *, next_step: str | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.facts = facts
        self.advice = next_step or self.next_step


class ConfigurationError(Refusal):
    """The settings are missing or malformed; all of what is wrong is named at once."""

    next_step = "Set what is named in the environment or in .env; .env.example explains each one."


class SchemaError(Refusal):
    """The database's schema is not the one that this program works with.

    `file` is that of an embedded database: for who is at the machine, and nobody else.
    """

    def __init__(
        self, detail: str, *, next_step: str | None = None, file: Path | None = None
    ) -> None:
        super().__init__(detail, next_step=next_step)
        self.file = file


class DecryptionError(Refusal):
    """What is stored sealed cannot be opened with the encryption keys at hand."""

    next_step = "Put the key that sealed it back into the list of encryption keys."
