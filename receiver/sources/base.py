"""Queries to a source of grades, every outcome they can have, and the protocol of a client."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from contract.grades import Score
from contract.problems import ProblemType
from contract.tokens import CourseToken, Token
from foundation.errors import Advice
from receiver.course_state import TokenAnnounced
from receiver.models import Source

TRY_LATER = Advice(
    "No action needed yet: the next run tries again. If this persists, check eAssessment."
)


@dataclass(frozen=True)
class GradeQuery:
    """A request for one course's grades with the course's token.

    The source may answer "unchanged" if its grades are the ones that `etag` names or, without an
    `etag`, if none changed after `modified_since`. `token_is_shared`: the token is stored for other
    courses of the site too.
    """

    source_url: str
    course_id: str
    token: Token
    etag: str | None = None
    modified_since: datetime | None = None
    token_is_shared: bool = False


@dataclass(frozen=True)
class PersonProblem:
    """A person whose score was not imported, and why; `user_id` is None if it is not known.

    `kept`: someone locked or overrode the grade in ELMS, so that it stays as it is there.
    """

    user_id: str | None
    detail: str
    kept: bool = False


@dataclass(frozen=True)
class TokenReplaced:
    """The token is valid until then; `token_id` is the current one."""

    token_id: str
    regenerated_at: datetime
    valid_until: datetime


@dataclass(frozen=True)
class ClaimedToken:
    """The current token of a course, and its announcement, which an older site does not state."""

    token: CourseToken
    announced: TokenAnnounced | None


@dataclass(frozen=True)
class Grades:
    """The course's scores, with its version and token where the site names them.

    `replaced_by`: the token of the request is not the current one, but still valid.
    """

    scores: tuple[Score, ...]
    etag: str | None
    course_version: int | None = None
    token_id: str | None = None
    replaced_by: TokenReplaced | None = None
    left_out: tuple[PersonProblem, ...] = ()

    @property
    def is_mostly_left_out(self) -> bool:
        """Whether most people were left out and no one else has a grade.

        One setting of the site may be the cause.
        """
        graded = any(score.score_given is not None for score in self.scores)
        return not graded and len(self.left_out) > max(1, len(self.scores))


@dataclass(frozen=True)
class Unchanged:
    """The grades are the ones that ELMS already has."""


@dataclass(frozen=True)
class DeletedOutcome:
    """The course was deleted; `course_version` is 0 if the site has no versions."""

    course_version: int
    deleted_at: datetime


@dataclass(frozen=True)
class RegeneratedOutcome:
    """The token was valid once; `token_id` is the current one."""

    course_version: int
    token_id: str
    regenerated_at: datetime


@dataclass(frozen=True)
class RejectedOutcome:
    """The token is not valid for this course, and the site named no current one.

    `problem` is the stable name of the refusal.
    """

    problem: ProblemType | str
    detail: str


@dataclass(frozen=True)
class Misconfigured:
    """An unexpected response about one course; a retry does not help."""

    detail: str
    advice: Advice


@dataclass(frozen=True)
class SiteOutage:
    """The whole site cannot be used now; no other course is requested in this run."""

    detail: str
    advice: Advice


@dataclass(frozen=True)
class Transient:
    """A failure that says nothing about the course; a retry may help.

    `unreachable`: no connection was made. `timed_out`: the site may still work on the request, so
    that it is not repeated in this run. `retry_after`: seconds to wait, as the site requested.
    """

    detail: str
    advice: Advice = TRY_LATER
    unreachable: bool = False
    timed_out: bool = False
    retry_after: float | None = None


FetchOutcome = (
    Grades
    | Unchanged
    | DeletedOutcome
    | RegeneratedOutcome
    | RejectedOutcome
    | Misconfigured
    | SiteOutage
    | Transient
)


class GradeSource(Protocol):
    """A client of one kind of source; several threads use it at once."""

    @property
    def max_queries(self) -> int:
        """The maximum number of queries in one `fetch`."""
        ...

    def fetch(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return an outcome for each query, in order; all are about one site. Never raise."""
        ...

    def url_of(self, query: GradeQuery) -> str:
        """Return the URL of a query, without any secret, for the log."""
        ...


class SourceFactory(Protocol):
    """Opens the clients of sources."""

    @property
    def requests(self) -> int:
        """The number of requests that the clients sent."""
        ...

    def cancel(self) -> None:
        """Cancel the requests in progress, from any thread, and send no more."""
        ...

    def open(self, source: Source) -> GradeSource:
        """Return the client of a source, or raise if its settings cannot be read."""
        ...
