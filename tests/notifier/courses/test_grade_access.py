"""Access to grades by token: single courses, batches, refusals."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from contract.grades import Score
from contract.tokens import CourseToken
from foundation.db.session import Database
from notifier.courses import grade_access
from notifier.courses import service as courses
from notifier.courses.grade_access import (
    CourseAccess,
    GradesOutcome,
    GradesRequest,
    GradesResult,
    GradesUnchanged,
)
from notifier.courses.grades import LoadResult
from notifier.errors import (
    BatchFullError,
    CourseDeletedError,
    CourseUnknownError,
    NotifierError,
    TokenMalformedError,
    TokenMissingError,
    TokenRegeneratedError,
    TokenUnknownError,
    TokenWrongCourseError,
)
from tests.notifier.conftest import NINE, MakeCourse, make_score

TEN = NINE + timedelta(hours=1)


@pytest.fixture
def authorize(database: Database) -> Callable[[str, CourseToken], CourseAccess]:
    """Return a function that authorizes a token for a course."""

    def read(course_id: str, bearer: CourseToken) -> CourseAccess:
        with database.reading() as session:
            (verdict,) = grade_access.authorize(session, [GradesRequest(course_id, bearer)])
        if isinstance(verdict, NotifierError):
            raise verdict
        return verdict

    return read


def delete(database: Database, course_id: str) -> None:
    """Delete a course at ten."""
    with database.writing() as session:
        courses.delete_course(session, course_id, now=TEN)


def regenerate(database: Database, course_id: str) -> CourseToken:
    """Regenerate a course's token at ten."""
    with database.writing() as session:
        return courses.regenerate_token(session, course_id, now=TEN)


def scores_of(database: Database, course_id: str, token: CourseToken) -> tuple[Score, ...]:
    """Return the scores that a token grants."""
    with database.reading() as session:
        (answer,) = grade_access.read_grades(session, [GradesRequest(course_id, token)])
    assert isinstance(answer, GradesResult)
    return answer.scores


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}", "  Bearer {} "])
def test_bearer_is_read_from_the_header(header: str) -> None:
    token = CourseToken.generate()

    assert grade_access.parse_bearer(header.format(token.reveal())) == token


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="no header"),
        pytest.param("", id="empty"),
        pytest.param("Basic ZWxtczpzZWNyZXQ=", id="Basic"),
        pytest.param("eas_k7Qx2mPa_secret", id="no scheme"),
        pytest.param("Bearereas_k7Qx2mPa", id="no space"),
    ],
)
def test_missing_token_is_refused(header: str | None) -> None:
    with pytest.raises(TokenMissingError) as refused:
        grade_access.parse_bearer(header)

    assert str(refused.value) == "the request has no course token"


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param("", id="empty"),
        pytest.param("{}x", id="one more character"),
        pytest.param("{} {}", id="two tokens"),
        pytest.param("Bearer {}", id="Bearer twice"),
    ],
)
def test_malformed_token_is_refused(credentials: str) -> None:
    token = CourseToken.generate().reveal()

    with pytest.raises(TokenMalformedError) as refused:
        grade_access.parse_bearer(f"Bearer {credentials.format(token, token)}")

    assert str(refused.value) == "a course token has the form eas_…_…; this was cut off or mistyped"


def test_current_token_grants_access(
    make_course: MakeCourse, authorize: Callable[[str, CourseToken], CourseAccess]
) -> None:
    token = make_course("CS101")

    reading = authorize("CS101", token)

    assert (reading.course_id, reading.course_version) == ("CS101", 1)
    assert reading.token_id == token.token_id


@pytest.mark.parametrize(
    "unknown_token",
    [
        pytest.param(lambda token: CourseToken.generate(), id="an id that never was"),
        pytest.param(lambda token: replace(token, secret="A" * 24), id="another secret"),
        pytest.param(lambda token: replace(token, token_id="AAAAAAAA"), id="another id"),
    ],
)
@pytest.mark.parametrize("course_id", ["CS101", "CS999"])
def test_unknown_token_is_refused(
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], CourseAccess],
    unknown_token: Callable[[CourseToken], CourseToken],
    course_id: str,
) -> None:
    token = make_course("CS101")

    with pytest.raises(TokenUnknownError) as refused:
        authorize(course_id, unknown_token(token))

    assert str(refused.value) == "no course has this token"
    assert refused.value.facts == {}


def test_superseded_token_is_refused_with_the_current_id(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], CourseAccess],
) -> None:
    old = make_course("CS101")
    new = regenerate(database, "CS101")

    with pytest.raises(TokenRegeneratedError) as refused:
        authorize("CS101", old)

    assert str(refused.value) == (
        f"the token {old.token_id} was replaced at 2026-11-22 10:00:00 UTC; "
        f"the current one is {new.token_id}"
    )
    assert refused.value.facts == {
        "course_id": "CS101",
        "course_version": 2,
        "token_id": new.token_id,
        "regenerated_at": TEN,
    }
    assert new.secret not in str(refused.value)


def test_token_of_another_course_is_refused(
    make_course: MakeCourse, authorize: Callable[[str, CourseToken], CourseAccess]
) -> None:
    make_course("CS101")
    token = make_course("CS102")

    with pytest.raises(TokenWrongCourseError) as refused:
        authorize("CS101", token)

    assert str(refused.value) == (
        f"the token {token.token_id} belongs to another course than 'CS101'"
    )
    assert refused.value.facts == {"course_id": "CS101", "token_id": token.token_id}


def test_unknown_course_is_refused(
    make_course: MakeCourse, authorize: Callable[[str, CourseToken], CourseAccess]
) -> None:
    token = make_course("CS101")

    with pytest.raises(CourseUnknownError) as refused:
        authorize("CS999", token)

    assert str(refused.value) == "there is no course 'CS999'"


@pytest.mark.parametrize("which", ["present", "superseded"])
def test_every_token_of_a_deleted_course_is_refused_as_deleted(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], CourseAccess],
    which: str,
) -> None:
    tokens = {"superseded": make_course("CS101"), "present": regenerate(database, "CS101")}
    delete(database, "CS101")

    with pytest.raises(CourseDeletedError) as refused:
        authorize("CS101", tokens[which])

    assert str(refused.value) == "the course 'CS101' was deleted at 2026-11-22 10:00:00 UTC"
    assert refused.value.facts == {"course_id": "CS101", "course_version": 3, "deleted_at": TEN}


def test_good_token_needs_one_statement(database: Database, make_course: MakeCourse) -> None:
    token = make_course("CS101")
    before = database.statements

    with database.reading() as session:
        grade_access.authorize(session, [GradesRequest("CS101", token)])

    assert database.statements - before == 1


def test_etag_follows_grades_and_course(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], CourseAccess],
    load: Callable[..., LoadResult],
) -> None:
    token = make_course("CS101")
    tags = [authorize("CS101", token).etag, authorize("CS101", token).etag]
    load({"CS101": [make_score()]})
    tags.append(authorize("CS101", token).etag)
    tags.append(authorize("CS101", regenerate(database, "CS101")).etag)

    assert tags[0] == tags[1]
    assert len(set(tags)) == 3


KINDS = (
    "fine",
    "unchanged",
    "malformed",
    "unknown_token",
    "regenerated",
    "another's",
    "deleted",
    "never was",
)


def make_request(
    database: Database, make_course: MakeCourse, kind: str, name: str
) -> GradesRequest:
    """Create a course and return a request of a kind for it."""
    token = make_course(name)
    match kind:
        case "unchanged":
            return GradesRequest(name, token, has_etag=lambda _: True)
        case "malformed":
            return GradesRequest(name, TokenMalformedError("mistyped"))
        case "unknown_token":
            return GradesRequest(name, CourseToken.generate())
        case "regenerated":
            regenerate(database, name)
        case "another's":
            return GradesRequest(name, make_course(f"{name}-other"))
        case "deleted":
            delete(database, name)
        case "never was":
            return GradesRequest(f"{name}-never", token)
    return GradesRequest(name, token)


def read(
    database: Database, requests: list[GradesRequest], **overrides: int
) -> list[GradesOutcome]:
    """Return the outcomes of requests."""
    with database.reading() as session:
        return grade_access.read_grades(session, requests, **overrides)


def comparable(answer: GradesOutcome) -> object:
    """Return an outcome as a value that can be compared; errors compare by identity."""
    if isinstance(answer, NotifierError):
        return type(answer), str(answer), answer.facts
    return answer


def test_batch_gives_each_course_the_outcome_it_has_alone(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    requests = [make_request(database, make_course, kind, kind) for kind in KINDS]
    load({"fine": [make_score()]})

    together = read(database, [*requests, *reversed(requests)])

    alone = [comparable(answer) for request in requests for answer in read(database, [request])]
    assert [comparable(answer) for answer in together] == [*alone, *reversed(alone)]
    assert [type(answer) for answer in together[: len(KINDS)]] == [
        GradesResult,
        GradesUnchanged,
        TokenMalformedError,
        TokenUnknownError,
        TokenRegeneratedError,
        TokenWrongCourseError,
        CourseDeletedError,
        CourseUnknownError,
    ]


def test_batch_may_name_a_course_twice(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    old = make_course("CS101")
    new = regenerate(database, "CS101")
    load({"CS101": [make_score()]})

    refused, granted = read(database, [GradesRequest("CS101", old), GradesRequest("CS101", new)])

    assert isinstance(refused, TokenRegeneratedError)
    assert isinstance(granted, GradesResult)
    assert granted.scores == (make_score(),)


def test_scores_of_many_courses_are_not_mixed(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    requests = [GradesRequest(name, make_course(name)) for name in ("CS1", "CS2", "CS3")]
    load({"CS3": [make_score(user_id="grace"), make_score()], "CS1": [make_score(comment="x")]})

    answers = read(database, requests)

    assert [answer.scores for answer in answers if isinstance(answer, GradesResult)] == [
        (make_score(comment="x"),),
        (),
        (make_score(), make_score(user_id="grace")),
    ]


def test_statements_of_a_batch_do_not_grow(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    requests = [
        make_request(database, make_course, kind, f"{kind} {number}")
        for number in range(13)
        for kind in KINDS
    ]
    load({f"fine {number}": [make_score()] for number in range(13)})

    def statements(count: int) -> int:
        before = database.statements
        read(database, requests[:count])
        return database.statements - before

    assert [statements(count) for count in (1, 10, 100)] == [2, 4, 4]


def test_malformed_token_causes_no_query(database: Database) -> None:
    before = database.statements

    answers = read(database, [GradesRequest("CS101", TokenMalformedError("mistyped"))] * 3)

    assert [str(answer) for answer in answers] == ["mistyped"] * 3
    assert database.statements == before


TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("has_etag", "since", "known"),
    [
        pytest.param(None, None, False, id="has nothing"),
        pytest.param(lambda etag: True, None, True, id="has the tag"),
        pytest.param(lambda etag: False, None, False, id="has another tag"),
        pytest.param(None, NINE, True, id="has what changed then"),
        pytest.param(None, NINE + TICK, True, id="has what changed before"),
        pytest.param(None, NINE - TICK, False, id="lacks what changed after"),
        pytest.param(lambda etag: False, TEN, False, id="the tag alone counts: another"),
        pytest.param(lambda etag: True, NINE - TICK, True, id="the tag alone counts: the same"),
    ],
)
def test_unchanged_scores_are_not_sent_again(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., LoadResult],
    has_etag: Callable[[str], bool] | None,
    since: datetime | None,
    known: bool,
) -> None:
    token = make_course("CS101")
    load({"CS101": [make_score()]}, now=NINE)

    (answer,) = read(database, [GradesRequest("CS101", token, has_etag, since)])

    assert isinstance(answer, GradesUnchanged) == known


def test_scores_that_never_changed_are_sent(database: Database, make_course: MakeCourse) -> None:
    token = make_course("CS101")

    (answer,) = read(database, [GradesRequest("CS101", token, since=TEN)])

    assert isinstance(answer, GradesResult)


@pytest.mark.parametrize(
    ("max_bytes", "fits"),
    [
        pytest.param(0, "100000", id="none but the first"),
        pytest.param(2 * 240, "110000", id="a second, alike"),
        pytest.param(2 * 240 + 400, "110010", id="a small one after a large one"),
        pytest.param(10**6, "111111", id="all"),
    ],
)
def test_batch_is_limited_by_size(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., LoadResult],
    max_bytes: int,
    fits: str,
) -> None:
    names = ["CS1", "CS2", "CS3", "CS4", "CS5", "CS6"]
    requests = [GradesRequest(name, make_course(name)) for name in names]
    large = make_score(user_id="1234567890", comment="x" * 1000)
    small = make_score(user_id="1234567890")
    load({name: [large if name in {"CS3", "CS4"} else small] for name in names})

    answers = read(database, requests, max_bytes=max_bytes)

    assert "".join("1" if isinstance(answer, GradesResult) else "0" for answer in answers) == fits
    full = [answer for answer in answers if isinstance(answer, BatchFullError)]
    assert [one.facts["course_id"] for one in full] == [
        name for name, fit in zip(names, fits, strict=True) if fit == "0"
    ]


def test_refused_and_unchanged_courses_have_no_size(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    known, sent = make_course("CS1"), make_course("CS2")
    load({"CS1": [make_score()], "CS2": [make_score()]})
    requests = [
        GradesRequest("CS1", known, has_etag=lambda _: True),
        GradesRequest("CS1", CourseToken.generate()),
        GradesRequest("CS2", sent),
    ]

    answers = read(database, requests, max_bytes=0)

    assert isinstance(answers[-1], GradesResult)


def test_repeated_course_counts_each_time(
    database: Database, make_course: MakeCourse, load: Callable[..., LoadResult]
) -> None:
    token = make_course("CS101")
    load({"CS101": [make_score()]})

    answers = read(database, [GradesRequest("CS101", token)] * 3, max_bytes=500)

    assert [type(answer) for answer in answers] == [GradesResult, GradesResult, BatchFullError]
