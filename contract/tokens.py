"""The shapes of tokens: our own, `eas_` + public id + `_` + secret + checksum, and Moodle's."""

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
    """The text is no course token: cut short, mistyped, or something else altogether."""


@dataclass(frozen=True, repr=False)
class CourseToken:
    """A course token: `token_id` is public, `secret` (24 of 62 characters: 142 bits) is not."""

    token_id: str
    secret: str

    @classmethod
    def generate(cls) -> "CourseToken":
        """Return a new token from the operating system's random source."""
        return cls(_random(_ID_LENGTH), _random(_SECRET_LENGTH))

    @classmethod
    def parse(cls, text: str) -> "CourseToken":
        """Return the token that the text spells, or raise; a typo is told without any query."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise MalformedTokenError("a course token looks like eas_…_…; this is cut or mistyped")
        token_id, secret, checksum = match.groups()
        if checksum != _checksum(token_id, secret):
            raise MalformedTokenError("the token's checksum is wrong: a character was mistyped")
        return cls(token_id, secret)

    def reveal(self) -> str:
        """Return the token as text, to be shown once or sent to its eAssessment."""
        return f"{_PREFIX}{self.token_id}_{self.secret}{_checksum(self.token_id, self.secret)}"

    def secret_sha256(self) -> str:
        """Return what eAssessment stores of the secret.

        A plain SHA-256 is enough: 142 random bits cannot be searched.
        """
        return hashlib.sha256(self.secret.encode("ascii")).hexdigest()

    def __repr__(self) -> str:
        return f"CourseToken({self.token_id})"


_MOODLE_FORM = re.compile(r"[0-9A-Za-z]{16,128}")
MOODLE_TOKEN_ID = re.compile(r"m[0-9a-f]{16}")
"""The form of a Moodle token's public id: narrow, so that nobody tells a token in its place."""


@dataclass(frozen=True, repr=False)
class MoodleToken:
    """A token of Moodle's web services, which has no public part: one is derived from it."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "MoodleToken":
        """Return the token, or raise MalformedTokenError for what Moodle never made."""
        if not _MOODLE_FORM.fullmatch(text):
            raise MalformedTokenError("a Moodle token is 32 letters and digits; this is not one")
        return cls(text)

    @property
    def token_id(self) -> str:
        """The public id: 64 bits of the token's SHA-256, which tell nothing of its 128."""
        return "m" + hashlib.sha256(self.text.encode("ascii")).hexdigest()[:16]

    def reveal(self) -> str:
        """Return the token as text, to be sent to its Moodle."""
        return self.text

    def __repr__(self) -> str:
        return f"MoodleToken({self.token_id})"


Token = CourseToken | MoodleToken
"""What a course's grades are asked for with: a token of its site's kind."""


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(token_id: str, secret: str) -> str:
    number = zlib.crc32(f"{token_id}_{secret}".encode("ascii"))
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
