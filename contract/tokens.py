"""Tokens: course tokens (`eas_` + public id + `_` + secret + checksum) and Moodle tokens."""

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX = "eas_"
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 8, 24, 6
_FORM = re.compile(
    rf"eas_([0-9A-Za-z]{{{_ID_LENGTH}}})_"
    rf"([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)


class MalformedTokenError(ValueError):
    """The text is not a token: it was cut off or mistyped, or is something else."""


@dataclass(frozen=True, repr=False)
class CourseToken:
    """A course token: `token_id` is public, `secret` (24 of 62 characters: 142 bits) is not."""

    token_id: str
    secret: str

    @classmethod
    def generate(cls) -> "CourseToken":
        """Return a new random token."""
        return cls(_random(_ID_LENGTH), _random(_SECRET_LENGTH))

    @classmethod
    def parse(cls, text: str) -> "CourseToken":
        """Return the token, or raise MalformedTokenError; the checksum detects typing errors."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise MalformedTokenError(
                "a course token has the form eas_…_…; this was cut off or mistyped"
            )
        token_id, secret, checksum = match.groups()
        if checksum != _checksum(token_id, secret):
            raise MalformedTokenError("the token's checksum is wrong: a character was mistyped")
        return cls(token_id, secret)

    def reveal(self) -> str:
        """Return the token as text, to show it once or send it to eAssessment."""
        return f"{_PREFIX}{self.token_id}_{self.secret}{_checksum(self.token_id, self.secret)}"

    def secret_sha256(self) -> str:
        """Return the hash that eAssessment stores.

        Plain SHA-256 is enough, because 142 random bits cannot be guessed.
        """
        return hashlib.sha256(self.secret.encode("ascii")).hexdigest()

    def __repr__(self) -> str:
        return f"CourseToken({self.token_id})"


_MOODLE_FORM = re.compile(r"[0-9A-Za-z]{16,128}")
# The form of the public id of a Moodle token; narrow, so that a token is never taken for an id.
MOODLE_TOKEN_ID = re.compile(r"m[0-9a-f]{16}")


@dataclass(frozen=True, repr=False)
class MoodleToken:
    """A token of Moodle's web services; its public id is derived, because it has no public part."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "MoodleToken":
        """Return the token, or raise MalformedTokenError."""
        if not _MOODLE_FORM.fullmatch(text):
            raise MalformedTokenError("a Moodle token is 32 letters and digits; this is not one")
        return cls(text)

    @property
    def token_id(self) -> str:
        """The public id: 64 bits of the token's SHA-256, which reveal nothing of the token."""
        return "m" + hashlib.sha256(self.text.encode("ascii")).hexdigest()[:16]

    def reveal(self) -> str:
        """Return the token as text, to send it to its Moodle."""
        return self.text

    def __repr__(self) -> str:
        return f"MoodleToken({self.token_id})"


# The token that the grades of a course are requested with, depending on the kind of its source.
Token = CourseToken | MoodleToken


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(token_id: str, secret: str) -> str:
    number = zlib.crc32(f"{token_id}_{secret}".encode("ascii"))
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
