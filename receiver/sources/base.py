"""What may be asked of a site about a course, and every way that can end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from contract.grades import Score
from contract.problems import ProblemType
from contract.tokens import Token


@dataclass(frozen=True)
class GradeQuery:
    """What is asked: a course's grades, by the bearer of its token.

    They need not be sent if they are those that `etag` names or, where none is named, if they did
    not change after `modified_since`.
    """

    source_url: str
    course_id: str
    token: Token
    etag: str | None = None
    modified_since: datetime | None = None


@dataclass(frozen=True)
class PersonProblem:
    """One person whose score could not be taken over, and why; `user_id` is None if unknown."""

    user_id: str | None
    detail: str


@dataclass(frozen=True)
class Grades:
    """The course's scores; its version and present token where the site names them."""

    scores: tuple[Score, ...]
    etag: str | None
    course_version: int | None = None
    token_id: str | None = None
    left_out: tuple[PersonProblem, ...] = ()


@dataclass(frozen=True)
class Unchanged:
    """The grades are those that ELMS has."""


@dataclass(frozen=True)
class CourseGone:
    """The course was deleted; the version is 0 at a site that counts none."""

    course_version: int
    deleted_at: datetime


@dataclass(frozen=True)
class SeemsGone:
    """The site does not find the course: to be confirmed before anything permanent is learnt.

    `certain` says whether the answer alone is enough where nothing can confirm it.
    """

    detail: str
    certain: bool


@dataclass(frozen=True)
class TokenReplaced:
    """The token was good once; `token_id` is the present one."""

    course_version: int
    token_id: str
    regenerated_at: datetime


@dataclass(frozen=True)
class TokenRefused:
    """The token is not one of this course, and no present one was named.

    `problem` is the refusal's stable name.
    """

    problem: ProblemType | str
    detail: str


@dataclass(frozen=True)
class Misconfigured:
    """The far side answers as no site in order does; asking again does not help."""

    detail: str
    next_step: str


@dataclass(frozen=True)
class SiteOutage:
    """Nothing can be asked of this site before a person has mended it."""

    detail: str
    next_step: str


@dataclass(frozen=True)
class Transient:
    """No answer that tells anything about the course; it is asked for again later.

    `unreachable`: not even a connection came about. `retry_after`: seconds that the site asked for.
    """

    detail: str
    next_step: str = "Nothing yet: the next run asks again. If it stays so, look at eAssessment."
    unreachable: bool = False
    retry_after: float | None = None


FetchOutcome = (
    Grades
    | Unchanged
    | CourseGone
    | SeemsGone
    | TokenReplaced
    | TokenRefused
    | Misconfigured
    | SiteOutage
    | Transient
)


class GradeSource(Protocol):
    """A kind of site that can be asked for grades; used by several threads at once."""

    @property
    def batch(self) -> int:
        """How many questions one `ask` may bring."""
        ...

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        ...

    def ask(self, questions: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return an outcome for each question about courses of one site, in order; never raise."""
        ...

    def confirm(self, questions: Sequence[GradeQuery]) -> list[bool | None]:
        """Tell of each course that seemed gone whether it is; None where that cannot be told."""
        ...

    def url_of(self, question: GradeQuery) -> str:
        """Return where a question goes, for the log: without any secret."""
        ...

    def break_off(self) -> None:
        """End what is under way, from whatever thread; what is asked from now on is not sent."""
        ...
