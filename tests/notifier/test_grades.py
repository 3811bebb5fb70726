"""Grades: who may read them and who is told why not; loading that keeps every digit."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from contract.grades import ActivityProgress, GradingProgress
from contract.tokens import CourseToken
from foundation.database import Database
from notifier import courses, grades
from notifier.errors import (
    CourseDeletedError,
    CourseUnknownError,
    TokenMalformedError,
    TokenMissingError,
    TokenRegeneratedError,
    TokenUnknownError,
    TokenWrongCourseError,
)
from notifier.grades import Loaded, Reading
from notifier.models import Grade
from tests.notifier.conftest import NINE, MakeCourse, make_score

TEN = NINE + timedelta(hours=1)


@pytest.fixture
def authorize(database: Database) -> Callable[[str, CourseToken], Reading]:
    """Return what asks for a course with a token, in a transaction of its own."""

    def ask(course_id: str, bearer: CourseToken) -> Reading:
        with database.reading() as session:
            return grades.authorize(session, course_id, bearer)

    return ask


@pytest.fixture
def load(database: Database) -> Callable[..., Loaded]:
    """Return what loads scores by course id, in a transaction of its own."""

    def store(scores: dict[str, list[object]]) -> Loaded:
        with database.writing() as session:
            return grades.load(session, scores)  # type: ignore[arg-type]

    return store


def delete(database: Database, course_id: str) -> None:
    """Delete a course at ten."""
    with database.writing() as session:
        courses.delete_course(session, course_id, now=TEN)


def regenerate(database: Database, course_id: str) -> CourseToken:
    """Regenerate a course's token at ten."""
    with database.writing() as session:
        return courses.regenerate_token(session, course_id, now=TEN)


def scores_of(database: Database, course_id: str, token: CourseToken) -> tuple[object, ...]:
    """Return what the bearer of a token reads."""
    with database.reading() as session:
        return grades.read(session, grades.authorize(session, course_id, token))


def grades_version(database: Database, course_id: str) -> int:
    """Return how often a load changed a course's grades."""
    with database.reading() as session:
        return courses.get_course(session, course_id).grades_version


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}", "  Bearer {} "])
def test_bearer_is_read_from_the_header(header: str) -> None:
    """The scheme is read in any case, with spaces where HTTP has them (RFC 6750)."""
    token = CourseToken.generate()

    assert grades.parse_bearer(header.format(token.reveal())) == token


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
        grades.parse_bearer(header)

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
        grades.parse_bearer(f"Bearer {credentials.format(token, token)}")

    assert str(refused.value) == "a course token looks like eas_…_…; this is cut or mistyped"


def test_mistyped_token_is_told_by_its_checksum() -> None:
    """A token with one character changed is refused before any query."""
    token = CourseToken.generate()
    typo = token.reveal()[:-1] + ("0" if token.reveal()[-1] != "0" else "1")

    with pytest.raises(TokenMalformedError) as refused:
        grades.parse_bearer(f"Bearer {typo}")

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
        grades.authorize(session, "CS101", token)

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


@pytest.mark.parametrize(
    "digits",
    ["0", "0.1", "0.10", "7.50000", "9999999999.99999", "0.00001"],
)
def test_points_keep_every_digit(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded], digits: str
) -> None:
    """Points come back as the digits that were loaded, trailing zeros and all."""
    token = make_course("CS101")
    load({"CS101": [make_score(score_given=Decimal(digits))]})

    (score,) = scores_of(database, "CS101", token)

    assert str(score.score_given) == digits  # type: ignore[attr-defined]


def test_score_comes_back_whole(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """Every field of a score comes back as it was loaded."""
    token = make_course("CS101")
    whole = make_score(
        score_given=None,
        comment='Größe\n"x", =cmd() \u202e 🎓',
        activity_progress=ActivityProgress.SUBMITTED,
        grading_progress=GradingProgress.PENDING_MANUAL,
    )
    load({"CS101": [whole]})

    assert scores_of(database, "CS101", token) == (whole,)


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

    assert [score.user_id for score in found] == ["ada", "edsger", "grace"]  # type: ignore[attr-defined]


def test_load_counts_new_changed_and_unchanged(
    make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """A load tells the new scores from the changed and the unchanged."""
    make_course("CS101")
    load({"CS101": [make_score(user_id=user) for user in ("ada", "grace", "edsger")]})

    loaded = load(
        {
            "CS101": [
                make_score(user_id="ada"),
                make_score(user_id="grace", score_given=Decimal(8)),
                make_score(user_id="edsger", comment="Simplicity."),
                make_score(user_id="barbara"),
            ]
        }
    )

    assert loaded == Loaded(added=1, changed=2, unchanged=1)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"score_given": None}, id="no score"),
        pytest.param({"score_given": Decimal("7.50001")}, id="the last digit"),
        pytest.param({"score_maximum": Decimal(20)}, id="the maximum"),
        pytest.param({"comment": ""}, id="an empty comment"),
        pytest.param({"activity_progress": ActivityProgress.STARTED}, id="the activity"),
        pytest.param({"grading_progress": GradingProgress.FAILED}, id="the grading"),
    ],
)
def test_every_field_that_says_something_is_a_change(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., Loaded],
    overrides: dict[str, object],
) -> None:
    """A difference in any field of a score is a change, is stored and makes a new version."""
    token = make_course("CS101")
    load({"CS101": [make_score()]})

    loaded = load({"CS101": [make_score(**overrides)]})

    assert loaded == Loaded(changed=1)
    assert scores_of(database, "CS101", token) == (make_score(**overrides),)
    assert grades_version(database, "CS101") == 2


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="the very same"),
        pytest.param({"timestamp": TEN}, id="said again later"),
        pytest.param({"score_given": Decimal("7.50")}, id="the same number"),
    ],
)
def test_nothing_new_is_no_change(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., Loaded],
    overrides: dict[str, object],
) -> None:
    """A score that says nothing new is counted as unchanged and makes no new version."""
    make_course("CS101")
    load({"CS101": [make_score()]})

    loaded = load({"CS101": [make_score(**overrides)]})

    assert loaded == Loaded(unchanged=1)
    assert grades_version(database, "CS101") == 1


def test_load_touches_the_versions_of_what_it_changed(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """Of the courses in one load only those with a new or changed score get a new version."""
    for course_id in ("CS101", "CS102", "CS103"):
        make_course(course_id)
    load({"CS101": [make_score()], "CS102": [make_score()]})

    load(
        {
            "CS101": [make_score()],
            "CS102": [make_score(), make_score(user_id="grace")],
            "CS103": [],
        }
    )

    versions = [grades_version(database, one) for one in ("CS101", "CS102", "CS103")]
    assert versions == [1, 2, 0]


def test_scores_that_are_not_named_stay(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """A load of one student's score leaves the others' as they are."""
    token = make_course("CS101")
    load({"CS101": [make_score(user_id="ada"), make_score(user_id="grace")]})

    load({"CS101": [make_score(user_id="grace", score_given=Decimal(9))]})

    ada, grace = scores_of(database, "CS101", token)
    assert (ada, grace) == (make_score(), make_score(user_id="grace", score_given=Decimal(9)))


def test_last_score_of_a_user_counts(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """Where a user stands twice in one load, the last score is stored and counted once."""
    token = make_course("CS101")

    loaded = load({"CS101": [make_score(), make_score(score_given=Decimal(3))]})

    assert loaded == Loaded(added=1)
    assert scores_of(database, "CS101", token) == (make_score(score_given=Decimal(3)),)


def test_same_user_in_two_courses_has_two_scores(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """A user's scores in two courses do not meet."""
    first, second = make_course("CS101"), make_course("CS102")

    load({"CS101": [make_score()], "CS102": [make_score(score_given=Decimal(1))]})

    assert scores_of(database, "CS101", first) == (make_score(),)
    assert scores_of(database, "CS102", second) == (make_score(score_given=Decimal(1)),)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        pytest.param(CourseUnknownError, "there is no course 'CS999'", id="unknown"),
        pytest.param(
            CourseDeletedError,
            "the course 'CS999' was deleted at 2026-11-22 10:00:00 UTC",
            id="deleted",
        ),
    ],
)
def test_nothing_is_stored_if_one_course_cannot_be(
    database: Database,
    make_course: MakeCourse,
    load: Callable[..., Loaded],
    refusal: type[Exception],
    words: str,
) -> None:
    """One unknown or deleted course refuses the whole load, and nothing of it is stored."""
    make_course("CS101")
    if refusal is CourseDeletedError:
        make_course("CS999")
        delete(database, "CS999")

    with pytest.raises(refusal) as refused:
        load({"CS101": [make_score()], "CS999": [make_score()]})

    assert str(refused.value) == words
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Grade)) == 0
    assert grades_version(database, "CS101") == 0


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_load_sees_a_deletion_that_came_between(
    database: Database, make_course: MakeCourse
) -> None:
    """Who looked at a course before another deleted it is refused all the same.

    On SQLite nobody can come between: who means to write waits before reading.
    """
    make_course("CS101")

    with database.writing() as session:
        seen = courses.get_course(session, "CS101")
        delete(database, "CS101")
        with pytest.raises(CourseDeletedError, match="'CS101' was deleted"):
            grades.load(session, {"CS101": [make_score()]})
        assert seen.deleted_at == TEN


def test_statements_of_a_load_do_not_grow(
    database: Database, make_course: MakeCourse, load: Callable[..., Loaded]
) -> None:
    """A load takes as many statements for 30 courses of 20 students as for one of one."""
    users = [f"user-{number}" for number in range(20)]
    for number in range(30):
        make_course(f"CS{number}")

    def statements(course_count: int, user_count: int, points: int) -> int:
        """Load so many scores that are partly new and partly changed; count the statements."""
        before = database.statements
        load(
            {
                f"CS{number}": [
                    make_score(user_id=user, score_given=Decimal(points + place))
                    for place, user in enumerate(users[:user_count])
                ]
                for number in range(course_count)
            }
        )
        return database.statements - before

    one, many = statements(1, 1, 0), statements(30, 20, 0)
    changed_one, changed_many = statements(1, 1, 1), statements(30, 20, 2)

    assert one == changed_one == changed_many
    assert many == one
