"""Readings: who may read which grades, one course or many, and who is told why not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from contract.grades import Score
from contract.tokens import CourseToken
from foundation.database import Database
from notifier import courses, readings
from notifier.errors import (
    CourseDeletedError,
    CourseUnknownError,
    NotifierError,
    TokenMalformedError,
    TokenMissingError,
    TokenRegeneratedError,
    TokenUnknownError,
    TokenWrongCourseError,
)
from notifier.grades import Loaded
from notifier.readings import Granted, Question, Reading
from tests.notifier.conftest import NINE, MakeCourse, make_score

TEN = NINE + timedelta(hours=1)


@pytest.fixture
def authorize(database: Database) -> Callable[[str, CourseToken], Reading]:
    """Return what asks for a course with a token, in a transaction of its own, or is refused."""

    def ask(course_id: str, bearer: CourseToken) -> Reading:
        with database.reading() as session:
            (verdict,) = readings.authorize(session, [Question(course_id, bearer)])
        if isinstance(verdict, NotifierError):
            raise verdict
        return verdict

    return ask


def delete(database: Database, course_id: str) -> None:
    """Delete a course at ten."""
    with database.writing() as session:
        courses.delete_course(session, course_id, now=TEN)


def regenerate(database: Database, course_id: str) -> CourseToken:
    """Regenerate a course's token at ten."""
    with database.writing() as session:
        return courses.regenerate_token(session, course_id, now=TEN)


def scores_of(database: Database, course_id: str, token: CourseToken) -> tuple[Score, ...]:
    """Return what the bearer of a token reads."""
    with database.reading() as session:
        (answer,) = readings.answer(session, [Question(course_id, token)])
    assert isinstance(answer, Granted)
    return answer.scores


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}", "  Bearer {} "])
def test_bearer_is_read_from_the_header(header: str) -> None:
    """The scheme is read in any case, with spaces where HTTP has them (RFC 6750)."""
    token = CourseToken.generate()

    assert readings.parse_bearer(header.format(token.reveal())) == token


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
def test_request_without_a_token_is_told_so(header: str | None) -> None:
    """Without a bearer token the refusal is that it is missing."""
    with pytest.raises(TokenMissingError) as refused:
        readings.parse_bearer(header)

    assert str(refused.value) == "the request bears no course token"


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param("", id="empty"),
        pytest.param("{}x", id="one more character"),
        pytest.param("{} {}", id="two tokens"),
        pytest.param("Bearer {}", id="Bearer twice"),
    ],
)
def test_malformed_token_is_told_from_a_missing_one(credentials: str) -> None:
    """What stands after `Bearer` and is no course token is malformed, and is not repeated."""
    token = CourseToken.generate().reveal()

    with pytest.raises(TokenMalformedError) as refused:
        readings.parse_bearer(f"Bearer {credentials.format(token, token)}")

    assert str(refused.value) == "a course token looks like eas_…_…; this is cut or mistyped"


def test_mistyped_token_is_told_by_its_checksum() -> None:
    """A token with one character changed is refused before any query."""
    token = CourseToken.generate()
    typo = token.reveal()[:-1] + ("0" if token.reveal()[-1] != "0" else "1")

    with pytest.raises(TokenMalformedError) as refused:
        readings.parse_bearer(f"Bearer {typo}")

    assert str(refused.value) == "the token's checksum is wrong: a character was mistyped"


def test_present_token_reads_its_course(
    make_course: MakeCourse, authorize: Callable[[str, CourseToken], Reading]
) -> None:
    """The bearer of the present token reads the course, at its present version."""
    token = make_course("CS101")

    reading = authorize("CS101", token)

    assert (reading.course_id, reading.course_version) == ("CS101", 1)
    assert reading.token_id == token.token_id


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(lambda token: CourseToken.generate(), id="an id that never was"),
        pytest.param(lambda token: replace(token, secret="A" * 24), id="another secret"),
        pytest.param(lambda token: replace(token, token_id="AAAAAAAA"), id="another id"),
    ],
)
@pytest.mark.parametrize("course_id", ["CS101", "CS999"])
def test_unknown_token_is_refused(
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], Reading],
    stranger: Callable[[CourseToken], CourseToken],
    course_id: str,
) -> None:
    """Who guessed an id or a secret is not told whether the course exists."""
    token = make_course("CS101")

    with pytest.raises(TokenUnknownError) as refused:
        authorize(course_id, stranger(token))

    assert str(refused.value) == "no course has this token"
    assert refused.value.facts == {}


def test_unknown_token_is_refused_the_same_for_a_deleted_course(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], Reading],
) -> None:
    """A guessed secret does not learn that the course was deleted."""
    token = make_course("CS101")
    delete(database, "CS101")

    with pytest.raises(TokenUnknownError, match="no course has this token"):
        authorize("CS101", replace(token, secret="A" * 24))


def test_superseded_token_is_told_of_the_present_one(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], Reading],
) -> None:
    """The bearer of a superseded token learns when, which token is good now, at which version."""
    old = make_course("CS101")
    new = regenerate(database, "CS101")

    with pytest.raises(TokenRegeneratedError) as refused:
        authorize("CS101", old)

    assert str(refused.value) == (
        f"the token {old.token_id} was replaced at 2026-11-22 10:00:00 UTC; "
        f"the present one is {new.token_id}"
    )
    assert refused.value.facts == {
        "course_id": "CS101",
        "course_version": 2,
        "token_id": new.token_id,
        "regenerated_at": TEN,
    }
    assert new.secret not in str(refused.value)


def test_first_of_many_tokens_is_told_of_the_last(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], Reading],
) -> None:
    """However many tokens came between, the bearer of the first learns the present one."""
    old = make_course("CS101")
    for _ in range(3):
        new = regenerate(database, "CS101")

    with pytest.raises(TokenRegeneratedError) as refused:
        authorize("CS101", old)

    assert refused.value.facts["token_id"] == new.token_id
    assert refused.value.facts["course_version"] == 4
    assert authorize("CS101", new).course_version == 4


def test_token_of_another_course_is_refused(
    make_course: MakeCourse, authorize: Callable[[str, CourseToken], Reading]
) -> None:
    """A good token reads its own course only, and is not told whose it is."""
    make_course("CS101")
    token = make_course("CS102")

    with pytest.raises(TokenWrongCourseError) as refused:
        authorize("CS101", token)

    assert str(refused.value) == (
        f"the token {token.token_id} belongs to another course than 'CS101'"
    )
    assert refused.value.facts == {"course_id": "CS101", "token_id": token.token_id}


def test_course_that_never_was_is_told_from_a_deleted_one(
    make_course: MakeCourse, authorize: Callable[[str, CourseToken], Reading]
) -> None:
    """A good token that asks for a course that never was learns just that."""
    token = make_course("CS101")

    with pytest.raises(CourseUnknownError) as refused:
        authorize("CS999", token)

    assert str(refused.value) == "there is no course 'CS999'"


@pytest.mark.parametrize("which", ["present", "superseded"])
def test_every_token_of_a_deleted_course_learns_of_its_deletion(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], Reading],
    which: str,
) -> None:
    """The bearer of any token that was once good learns when the course was deleted."""
    tokens = {"superseded": make_course("CS101"), "present": regenerate(database, "CS101")}
    delete(database, "CS101")

    with pytest.raises(CourseDeletedError) as refused:
        authorize("CS101", tokens[which])

    assert str(refused.value) == "the course 'CS101' was deleted at 2026-11-22 10:00:00 UTC"
    assert refused.value.facts == {"course_id": "CS101", "course_version": 3, "deleted_at": TEN}


def test_good_token_needs_one_statement(database: Database, make_course: MakeCourse) -> None:
    """A bearer is authorized in one query, token and course together."""
    token = make_course("CS101")
    before = database.statements

    with database.reading() as session:
        readings.authorize(session, [Question("CS101", token)])

    assert database.statements - before == 1


def test_etag_follows_grades_and_course(
    database: Database,
    make_course: MakeCourse,
    authorize: Callable[[str, CourseToken], Reading],
    load: Callable[..., Loaded],
) -> None:
    """The ETag stays while nothing changes, and is new after a load or a change of the course."""
    token = make_course("CS101")
    tags = [authorize("CS101", token).etag, authorize("CS101", token).etag]
    load({"CS101": [make_score()]})
    tags.append(authorize("CS101", token).etag)
    tags.append(authorize("CS101", regenerate(database, "CS101")).etag)

    assert tags[0] == tags[1]
    assert len(set(tags)) == 3


def test_scores_are_read_by_user(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """A course's scores come ordered by user, and none of another course's are among them."""
    token = make_course("CS101")
    make_course("CS102")
    load(
        {
            "CS101": [make_score(user_id=user) for user in ("grace", "ada", "edsger")],
            "CS102": [make_score(user_id="barbara")],
        }
    )

    found = scores_of(database, "CS101", token)

    assert [score.user_id for score in found] == ["ada", "edsger", "grace"]
