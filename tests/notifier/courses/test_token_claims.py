"""Claims of new tokens: the same one each time, until it is used or the overlap is over."""

from datetime import datetime, timedelta

import pytest

from contract.signatures import TOLERANCE
from contract.tokens import CourseToken
from foundation.errors import Refusal
from notifier.courses import service as courses
from notifier.courses import token_claims
from notifier.courses.token_claims import ClaimedToken
from notifier.errors import CourseDeletedError, CourseUnknownError, TokenNotClaimableError
from notifier.models import IssuedToken, TokenClaim
from notifier.webhooks import endpoints
from tests.notifier.conftest import NINE, Store

HOUR = timedelta(hours=1)


def regenerate(store: Store, overlap: timedelta = HOUR, at: datetime = NINE) -> CourseToken:
    """Regenerate the token of CS101."""
    return store.write(
        courses.regenerate_token, "CS101", overlap=overlap, vault=store.vault, now=at
    )


def claim(store: Store, *course_ids: str, at: datetime = NINE) -> list[ClaimedToken | Refusal]:
    """Claim the tokens of courses."""
    return store.read(token_claims.claim, course_ids or ["CS101"], vault=store.vault, now=at)


def claimed(token: CourseToken, version: int = 2) -> ClaimedToken:
    """Return what a claim of a token returns that was regenerated at nine."""
    return ClaimedToken("CS101", token, version, NINE, NINE + HOUR)


def kept(store: Store) -> list[str]:
    """Return the ids of the tokens that are stored encrypted."""
    return [one.token_id for one in store.all(IssuedToken) if one.encrypted_token]


@pytest.fixture
def endpoint_id(store: Store) -> int:
    """An endpoint that may claim tokens; there is the course CS101."""
    store.add_course("CS101")
    return store.add_endpoint(may_claim_tokens=True).id


def test_claims_return_the_same_token_until_the_overlap_ends(
    store: Store, endpoint_id: int
) -> None:
    token = regenerate(store)

    claims = [claim(store, at=at) for at in (NINE, NINE + HOUR / 2)]
    (late,) = claim(store, at=NINE + HOUR)

    assert claims == [[claimed(token)]] * 2
    assert isinstance(late, TokenNotClaimableError)
    assert str(late).endswith("the overlap ended at 2026-11-22 10:00:00 UTC")


def test_each_course_has_its_own_answer(store: Store, endpoint_id: int) -> None:
    token = regenerate(store)
    store.add_course("CS102")
    store.write(courses.delete_course, "CS102", now=NINE)
    store.write(courses.ensure_course, "7", "Algorithms", now=NINE)

    deleted, unknown, present, moodle = claim(store, "CS102", "none", "CS101", "7")

    assert isinstance(deleted, CourseDeletedError)
    assert isinstance(unknown, CourseUnknownError)
    assert present == claimed(token)
    assert str(moodle).endswith("a Moodle issues it")
    assert store.count_statements(lambda: claim(store, "CS101", "CS102", "none")) == 1


def test_regeneration_at_once_excludes_claims(store: Store, endpoint_id: int) -> None:
    regenerate(store)
    regenerate(store, timedelta(0))

    (refused,) = claim(store)

    assert isinstance(refused, TokenNotClaimableError)
    assert (kept(store), "without an overlap" in str(refused)) == ([], True)


def test_only_the_current_token_can_be_claimed(store: Store, endpoint_id: int) -> None:
    regenerate(store)
    token = regenerate(store)

    assert claim(store) == [claimed(token, 3)]
    assert kept(store) == [token.token_id]


def test_token_is_forgotten_when_it_is_used(store: Store, endpoint_id: int) -> None:
    token = regenerate(store)

    store.write(token_claims.forget_used, [token.token_id])

    (refused,) = claim(store)
    assert (kept(store), "it has been used once, by this ELMS or another" in str(refused)) == (
        [],
        True,
    )


def test_nothing_is_stored_without_a_claimant(store: Store) -> None:
    store.add_course("CS101")
    store.add_endpoint()
    store.write(endpoints.remove, store.add_endpoint(may_claim_tokens=True).id, by="a", now=NINE)

    regenerate(store)

    assert kept(store) == []


def test_expired_tokens_are_forgotten(store: Store, endpoint_id: int) -> None:
    regenerate(store)

    early = store.read(token_claims.any_to_forget, now=NINE)
    due = store.read(token_claims.any_to_forget, now=NINE + HOUR)
    store.write(token_claims.forget_expired, now=NINE + HOUR)

    assert (early, due, kept(store)) == (False, True, [])


def test_tokens_are_forgotten_once_no_endpoint_may_claim_them(
    store: Store, endpoint_id: int
) -> None:
    regenerate(store)
    store.write(endpoints.set_token_claims, endpoint_id, allowed=False)

    store.write(token_claims.forget_expired, now=NINE)

    assert kept(store) == []


def test_tokens_stay_while_their_endpoint_is_disabled(store: Store, endpoint_id: int) -> None:
    token = regenerate(store)

    store.write(endpoints.disable, endpoint_id, "moved", now=NINE)
    store.write(token_claims.forget_expired, now=NINE)

    assert claim(store) == [claimed(token)]


def test_nothing_is_stored_for_a_disabled_endpoint(store: Store, endpoint_id: int) -> None:
    store.write(endpoints.disable, endpoint_id, "moved", now=NINE)

    regenerate(store)

    assert kept(store) == []


def test_claim_is_remembered_while_its_signature_is_good(store: Store, endpoint_id: int) -> None:
    other = store.add_endpoint().id
    times = [NINE, NINE, NINE + 2 * TOLERANCE, NINE + 4 * TOLERANCE]

    are_new = [store.write(token_claims.record, endpoint_id, "claim_1", now=at) for at in times]
    is_new_elsewhere = store.write(token_claims.record, other, "claim_1", now=NINE)

    assert (are_new, is_new_elsewhere) == ([True, False, False, True], True)
    assert len(store.all(TokenClaim)) == 2


def test_restored_course_can_be_claimed_again(store: Store, endpoint_id: int) -> None:
    token = regenerate(store)
    store.write(courses.delete_course, "CS101", now=NINE)
    (deleted,) = claim(store)

    store.write(courses.restore_course, "CS101", grace=timedelta(days=1), now=NINE)

    assert isinstance(deleted, CourseDeletedError)
    assert claim(store) == [claimed(token, 4)]
