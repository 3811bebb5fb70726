"""Access to grades by token: single courses, batches, refusals."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contract.grades import TokenOverlap
from contract.tokens import CourseToken
from notifier.courses import grade_access
from notifier.courses import service as courses
from notifier.courses.grade_access import (
    GradesOutcome,
    GradesRequest,
    GradesResult,
    GradesUnchanged,
)
from notifier.errors import (
    BatchFullError,
    CourseDeletedError,
    CourseUnknownError,
    NotifierError,
    TokenMalformedError,
    TokenRegeneratedError,
    TokenUnknownError,
    TokenWrongCourseError,
)
from tests.notifier.conftest import NINE, Store, make_score

TEN = NINE + timedelta(hours=1)
TICK = timedelta(microseconds=1)


def regenerate(store: Store, course_id: str) -> CourseToken:
    """Regenerate a course's token at ten."""
    return store.write(courses.regenerate_token, course_id, now=TEN)


def read(store: Store, *requests: GradesRequest, **options: Any) -> list[GradesOutcome]:
    """Return the outcomes of requests."""
    return store.read(grade_access.read_grades, requests, **{"now": TEN, **options})


def test_replaced_token_reads_until_its_overlap_ends(store: Store) -> None:
    old = store.add_course("CS101")
    new = store.write(courses.regenerate_token, "CS101", overlap=TEN - NINE, now=NINE)

    requests = [GradesRequest("CS101", token) for token in (old, new)]
    during, current = read(store, *requests, now=TEN - TICK)
    after, _ = read(store, *requests, now=TEN)

    assert isinstance(during, GradesResult)
    assert during.access.token_id == old.token_id
    assert during.access.overlap == TokenOverlap(
        token_id=new.token_id, regenerated_at=NINE, valid_until=TEN
    )
    assert isinstance(current, GradesResult)
    assert current.access.overlap is None
    assert isinstance(after, TokenRegeneratedError)


def test_deletion_ends_an_overlap(store: Store) -> None:
    old = store.add_course("CS101")
    store.write(courses.regenerate_token, "CS101", overlap=TEN - NINE, now=NINE)
    store.write(courses.delete_course, "CS101", now=NINE)

    (outcome,) = read(store, GradesRequest("CS101", old), now=NINE)

    assert isinstance(outcome, CourseDeletedError)


@pytest.mark.parametrize("header", ["Bearer {}", "  BEARER   {} "])
def test_bearer_is_read_from_the_header(header: str) -> None:
    token = CourseToken.generate()

    assert grade_access.parse_bearer(header.format(token.reveal())) == token


def refusal(store: Store, course_id: str, bearer: CourseToken) -> NotifierError:
    """Return why a token is refused."""
    (refused,) = read(store, GradesRequest(course_id, bearer))
    assert isinstance(refused, NotifierError)
    return refused


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda token: CourseToken.generate(), id="unknown id"),
        pytest.param(lambda token: replace(token, secret="A" * 24), id="another secret"),
    ],
)
@pytest.mark.parametrize("course_id", ["CS101", "CS999"])
def test_unknown_token_does_not_show_whether_the_course_exists(
    store: Store, change: Callable[[CourseToken], CourseToken], course_id: str
) -> None:
    token = store.add_course("CS101")

    refused = refusal(store, course_id, change(token))

    assert (str(refused), refused.facts) == ("no course has this token", {})


def test_superseded_token_is_refused_with_the_current_id(store: Store) -> None:
    old = store.add_course("CS101")
    new = regenerate(store, "CS101")

    refused = refusal(store, "CS101", old)

    assert str(refused) == (
        f"the token {old.token_id} was replaced at 2026-11-22 10:00:00 UTC; "
        f"the current one is {new.token_id}"
    )
    assert refused.facts == {
        "course_id": "CS101",
        "course_version": 2,
        "token_id": new.token_id,
        "regenerated_at": TEN,
    }


def test_token_of_another_course_is_refused(store: Store) -> None:
    store.add_course("CS101")
    token = store.add_course("CS102")

    refused = refusal(store, "CS101", token)

    assert str(refused) == f"the token {token.token_id} belongs to another course than 'CS101'"
    assert refused.facts == {"course_id": "CS101", "token_id": token.token_id}


@pytest.mark.parametrize("which", [0, 1], ids=["superseded", "current"])
def test_every_token_of_a_deleted_course_is_refused_as_deleted(store: Store, which: int) -> None:
    tokens = store.add_course("CS101"), regenerate(store, "CS101")
    store.write(courses.delete_course, "CS101", now=TEN)

    refused = refusal(store, "CS101", tokens[which])

    assert str(refused) == "the course 'CS101' was deleted at 2026-11-22 10:00:00 UTC"
    assert refused.facts == {"course_id": "CS101", "course_version": 3, "deleted_at": TEN}


def test_restored_course_answers_its_token_with_another_etag(store: Store) -> None:
    token = store.add_course("CS101")
    store.load({"CS101": [make_score()]})
    (before,) = read(store, GradesRequest("CS101", token))
    store.write(courses.delete_course, "CS101", now=TEN)
    store.write(courses.restore_course, "CS101", grace=timedelta(days=1), now=TEN)

    (after,) = read(store, GradesRequest("CS101", token))

    assert isinstance(before, GradesResult)
    assert isinstance(after, GradesResult)
    assert after.scores == before.scores
    assert (after.access.course_version, after.access.token_id) == (3, token.token_id)
    assert after.access.etag != before.access.etag


def test_etag_follows_grades_and_course(store: Store) -> None:
    token = store.add_course("CS101")

    def etag(bearer: CourseToken) -> str:
        (result,) = read(store, GradesRequest("CS101", bearer))
        assert isinstance(result, GradesResult)
        return result.access.etag

    tags = [etag(token), etag(token)]
    store.load({"CS101": [make_score()]})
    tags.append(etag(token))
    tags.append(etag(regenerate(store, "CS101")))

    assert tags[0] == tags[1]
    assert len(set(tags)) == 3


KINDS = {
    "granted": GradesResult,
    "unchanged": GradesUnchanged,
    "malformed": TokenMalformedError,
    "unknown token": TokenUnknownError,
    "regenerated": TokenRegeneratedError,
    "another's": TokenWrongCourseError,
    "deleted": CourseDeletedError,
    "unknown course": CourseUnknownError,
}


def make_request(store: Store, kind: str, name: str) -> GradesRequest:
    """Create a course and return a request of a kind for it."""
    token = store.add_course(name)
    match kind:
        case "unchanged":
            return GradesRequest(name, token, has_etag=lambda _: True)
        case "malformed":
            return GradesRequest(name, TokenMalformedError("mistyped"))
        case "unknown token":
            return GradesRequest(name, CourseToken.generate())
        case "regenerated":
            regenerate(store, name)
        case "another's":
            return GradesRequest(name, store.add_course(f"{name}-other"))
        case "deleted":
            store.write(courses.delete_course, name, now=TEN)
        case "unknown course":
            return GradesRequest(f"{name}-never", token)
    return GradesRequest(name, token)


def comparable(answer: GradesOutcome) -> object:
    """Return an outcome as a value that can be compared; errors compare by identity."""
    if isinstance(answer, NotifierError):
        return type(answer), str(answer), answer.facts
    return answer


def test_batch_gives_each_course_the_outcome_it_has_alone(store: Store) -> None:
    requests = [make_request(store, kind, kind) for kind in KINDS]
    store.load({"granted": [make_score()]})

    together = read(store, *requests, *reversed(requests))

    alone = [comparable(answer) for request in requests for answer in read(store, request)]
    assert [comparable(answer) for answer in together] == [*alone, *reversed(alone)]
    assert [type(answer) for answer in together[: len(KINDS)]] == [*KINDS.values()]


def test_scores_of_many_courses_are_not_mixed(store: Store) -> None:
    requests = [GradesRequest(name, store.add_course(name)) for name in ("CS1", "CS2", "CS3")]
    scores = {"CS3": [make_score(user_id="grace"), make_score()], "CS1": [make_score(comment="x")]}
    store.load(scores)

    answers = read(store, *requests)

    assert [answer.scores for answer in answers if isinstance(answer, GradesResult)] == [
        (make_score(comment="x"),),
        (),
        (make_score(), make_score(user_id="grace")),
    ]


def test_statements_of_a_batch_do_not_grow(store: Store) -> None:
    requests = [
        make_request(store, kind, f"{kind} {number}") for number in range(3) for kind in KINDS
    ]
    malformed = GradesRequest("CS101", TokenMalformedError("mistyped"))
    batches = ([malformed] * 2, requests[:1], requests[:9], requests)

    counts = [store.count_statements(lambda batch=batch: read(store, *batch)) for batch in batches]

    assert counts == [0, 2, 4, 4]


@pytest.mark.parametrize(
    ("condition", "known"),
    [
        pytest.param({}, False, id="none"),
        pytest.param({"has_etag": lambda _: True}, True, id="tag"),
        pytest.param({"since": NINE}, True, id="time of the change"),
        pytest.param({"since": NINE - TICK}, False, id="before the change"),
        pytest.param({"has_etag": lambda _: False, "since": TEN}, False, id="another tag"),
        pytest.param({"has_etag": lambda _: True, "since": NINE - TICK}, True, id="tag and before"),
    ],
)
def test_unchanged_scores_are_not_sent_again(
    store: Store, condition: dict[str, Any], known: bool
) -> None:
    token = store.add_course("CS101")
    store.load({"CS101": [make_score()]}, now=NINE)

    (answer,) = read(store, GradesRequest("CS101", token, **condition))

    assert isinstance(answer, GradesUnchanged) == known


@pytest.mark.parametrize(
    ("max_bytes", "fits"),
    [
        pytest.param(0, "100000", id="none but the first"),
        pytest.param(2 * 240 + 400, "110010", id="a small one after a large one"),
        pytest.param(10**6, "111111", id="all"),
    ],
)
def test_batch_is_limited_by_size(store: Store, max_bytes: int, fits: str) -> None:
    names = ["CS1", "CS2", "CS3", "CS4", "CS5", "CS6"]
    requests = [GradesRequest(name, store.add_course(name)) for name in names]
    large = make_score(user_id="1234567890", comment="x" * 1000)
    small = make_score(user_id="1234567890")
    store.load({name: [large if name in {"CS3", "CS4"} else small] for name in names})
    without_size = [
        GradesRequest("CS1", requests[0].bearer, has_etag=lambda _: True),
        GradesRequest("CS1", CourseToken.generate()),
    ]

    _, _, *answers = read(store, *without_size, *requests, max_bytes=max_bytes)

    assert "".join("1" if isinstance(answer, GradesResult) else "0" for answer in answers) == fits
    full = [answer for answer in answers if isinstance(answer, BatchFullError)]
    assert [one.facts["course_id"] for one in full] == [
        name for name, fit in zip(names, fits, strict=True) if fit == "0"
    ]
