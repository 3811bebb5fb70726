"""The results of a run grouped by reason, for the log, the commands and the pages."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from foundation.errors import Advice
from receiver.course_state import CourseStatus
from receiver.models import RunCourse
from receiver.runs.store import CourseResult, ResultReason

# The number of courses that a group names.
FIRST_FEW = 5

LABELS: dict[str, str] = {
    CourseStatus.COURSE_DELETED: "course deleted",
    CourseStatus.TOKEN_INVALID: "token invalid",
    ResultReason.SITE_TROUBLE: "site cannot be used",
    ResultReason.GRADEBOOK_TROUBLE: "gradebook cannot be used",
    ResultReason.MISCONFIGURED: "wrong configuration",
    ResultReason.TRANSIENT: "temporary failure",
    ResultReason.TOKEN_UNREADABLE: "stored token cannot be decrypted",
    ResultReason.UNFORESEEN: "unexpected error",
    ResultReason.STOPPED: "not reached: stopped",
    ResultReason.DEADLINE: "not reached: time limit",
    ResultReason.LEASE_LOST: "not reached: lease lost",
    ResultReason.DATABASE_UNAVAILABLE: "not reached: database unavailable",
    ResultReason.PEOPLE_LEFT_OUT: "scores left out",
    ResultReason.PEOPLE_KEPT: "grades kept in ELMS",
}
"""The label of each reason."""

_NO_ACTION = {CourseStatus.COURSE_DELETED, ResultReason.PEOPLE_KEPT}


def needs_attention(reason: str | None) -> bool:
    """Return True if a course with this reason needs someone's attention."""
    return reason is not None and reason not in _NO_ACTION


@dataclass(frozen=True)
class ResultGroup:
    """The number of courses of a source that have the same reason and next step, and the first.

    `detail` is what went wrong if it is the same for all of them, otherwise None.
    """

    courses: int
    first: tuple[CourseResult | RunCourse, ...]
    detail: str | None

    @property
    def source(self) -> str:
        """The name of their source."""
        return self.first[0].source

    @property
    def reason(self) -> str:
        """Their reason."""
        return str(self.first[0].reason)

    @property
    def needs_attention(self) -> bool:
        """Whether they need someone's attention."""
        return needs_attention(self.reason)

    @property
    def label(self) -> str:
        """The label of their reason."""
        return LABELS.get(self.reason, self.reason)

    @property
    def names(self) -> str:
        """The ids of the first few, and the number of the others."""
        ids = ", ".join(course.course_id for course in self.first)
        more = self.courses - len(self.first)
        return f"{ids} and {more:,} more" if more else ids

    @property
    def example(self) -> str | None:
        """What went wrong: of all of them, or of the first."""
        detail = self.first[0].detail
        return detail if self.detail or not detail else f"for example, {detail}"

    @property
    def advice(self) -> Advice | None:
        """What to do: for one course, or for any of several."""
        first = self.first[0]
        advice = first.advice
        if self.courses == 1 or advice is None:
            return advice
        if advice.action == "registry set-token":
            return replace(advice, args=("--from-file", "FILE"))
        args = ("COURSE_ID" if arg == first.course_id else arg for arg in advice.args)
        return replace(advice, args=tuple(args))

    def list_command(self, run_id: int) -> str:
        """Return the command, without its program, that lists all of them."""
        args = (str(run_id), "--reason", self.reason, "--source", self.source)
        return str(Advice("", "runs show", args).command)


def group_results(courses: Iterable[CourseResult]) -> list[ResultGroup]:
    """Return the groups of results that have a reason, except deletions, largest first."""
    alike: dict[tuple[str | None, ...], list[CourseResult]] = {}
    for course in courses:
        if course.reason is not None and course.reason != CourseStatus.COURSE_DELETED:
            next_step = course.advice.text if course.advice else None
            key = course.source, course.reason, next_step
            alike.setdefault(key, []).append(course)
    return in_order(
        ResultGroup(
            len(some),
            tuple(some[:FIRST_FEW]),
            some[0].detail if len({course.detail for course in some}) == 1 else None,
        )
        for some in alike.values()
    )


def in_order(groups: Iterable[ResultGroup]) -> list[ResultGroup]:
    """Return groups in the order in which they are shown: the largest first."""
    return sorted(groups, key=lambda group: (-group.courses, group.reason, group.source))
