"""Sources: eAssessment sites, their webhook secrets and site tokens."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from pydantic import SecretStr

from contract.grades import Score
from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.errors import DecryptionError
from receiver.errors import (
    LastSecretError,
    RunInProgressError,
    SecretExistsError,
    SecretUnknownError,
    SourceExistsError,
    SourceInUseError,
    SourceInvalidError,
    SourceKindError,
    SourceUnclearError,
    SourceUnknownError,
)
from receiver.gradebook import database as gradebook
from receiver.models import (
    MOODLE,
    Entry,
    HistoryEntry,
    InboxMessage,
    SourceRefusal,
    SourceSecret,
)
from receiver.registry import entries as registry
from receiver.runs import lease
from receiver.sources import store as sources
from receiver.sources.store import LastRefusal
from tests.receiver.conftest import ENCRYPTION_KEY, NINE, WEBHOOK, Store, make_deleted

OTHER_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
SITE_TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")


def test_webhook_source_has_the_decrypted_secrets_of_its_source(
    store: Store, other_vault: Vault
) -> None:
    old, new, strange = Secret.generate(), Secret.generate(), Secret.generate()
    source = store.add_source("one", secrets=(old, new))
    store.add_source("two", secrets=(strange,))

    with store.database.reading() as session:
        found = sources.get_webhook_source(session, "one", vault=store.vault)
        newest = sources.newest_secret(sources.get(session, "one"), vault=store.vault)
        with pytest.raises(DecryptionError, match="a key that is not in the settings"):
            sources.get_webhook_source(session, "one", vault=other_vault)

    assert found == sources.WebhookSource(source.id, "one", (old, new))
    assert newest == new
    assert old.reveal() not in store.everything() + repr(found)


def test_reencrypted_secrets_and_site_tokens_need_only_the_new_key(
    store: Store, other_vault: Vault
) -> None:
    secret, both = Secret.generate(), Vault(SecretStr(f"{OTHER_KEY},{ENCRYPTION_KEY}"))
    with store.database.writing() as session:
        source = sources.add(session, "m", "https://m.example", MOODLE, now=NINE)
        sources.add_secret(session, source, secret, vault=store.vault, now=NINE)
        before = sources.site_token_of(source, vault=store.vault)
        sources.set_site_token(session, source, MoodleToken("f" * 32), vault=store.vault)
        sources.set_site_token(session, source, SITE_TOKEN, vault=store.vault)

    with store.database.writing() as session:
        count = sources.reencrypt(session, vault=both)

    with store.database.reading() as session:
        source = sources.get(session, "m")
        assert sources.secrets_of(source, vault=other_vault) == [secret]
        assert sources.site_token_of(source, vault=other_vault) == SITE_TOKEN
        assert len(sources.ciphertexts_of(source)) == 2
    assert (before, count) == (None, 2)
    assert SITE_TOKEN.reveal() not in store.everything()


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("name", "url", "message"),
    [
        pytest.param("a b", "https://x.example", "'a b' is not a valid name", id="name"),
        pytest.param("a", "ftp://x.example", "not an http or https URL", id="scheme"),
        pytest.param("a", "https://", "not an http or https URL with a host", id="no host"),
        pytest.param("a", "https://x.example:port", "cannot be read", id="port"),
        pytest.param("a", "https://x.example:0", "cannot be read: Port 0", id="port 0"),
        pytest.param("a", "https://u:p@x.example", "more than scheme, host", id="user info"),
        pytest.param("a", "https://x.example/?a=1", "more than scheme, host", id="query"),
        pytest.param("a", "https://x.example/#a", "more than scheme, host", id="fragment"),
        pytest.param("a", "http://x.example\\@127.0.0.1/", "more than scheme", id="two hosts"),
        pytest.param("a", "https://x.example/\n", "not an http or https URL", id="line break"),
        pytest.param("a", f"https://x.example/{'a' * 2000}", "longer than 2000", id="too long"),
    ],
)
def test_invalid_source_is_refused(store: Store, name: str, url: str, message: str) -> None:
    with store.database.writing() as session, pytest.raises(SourceInvalidError, match=message):
        sources.add(session, name, url, now=NINE)


@pytest.mark.parametrize("name", ["none", "nul\x00"])
def test_unknown_source_is_refused(store: Store, name: str) -> None:
    with (
        store.database.reading() as session,
        pytest.raises(SourceUnknownError, match="there is no"),
    ):
        sources.get(session, name)


def test_only_source_is_the_default(store: Store) -> None:
    with (
        store.database.reading() as session,
        pytest.raises(SourceUnclearError, match="no source yet"),
    ):
        sources.choose(session, None)
    store.add_source("one")
    with store.database.reading() as session:
        assert sources.choose(session, None).name == "one"
    store.add_source("two")
    with store.database.reading() as session:
        assert sources.choose(session, "two").name == "two"
        with pytest.raises(SourceUnclearError, match="2 sources, and none was given"):
            sources.choose(session, None)


def test_secret_is_removed(store: Store) -> None:
    secret = Secret.generate()
    store.add_source("one", secrets=(secret,))
    store.add_source("two")
    with store.database.writing() as session:
        one, two = sources.get(session, "one"), sources.get(session, "two")
        with pytest.raises(SecretExistsError, match="already has this secret"):
            sources.add_secret(session, one, secret, vault=store.vault, now=NINE)
        number = one.secrets[0].id
        with pytest.raises(SecretUnknownError, match=f"two has no secret {number}"):
            sources.remove_secret(session, two, number)

        with pytest.raises(LastSecretError, match=f"the secret {number} is the last one of one"):
            sources.remove_secret(session, one, number)

        left = sources.remove_secret(session, one, number, even_last=True)

    assert left == 0
    with store.database.reading() as session:
        assert sources.get_webhook_source(session, "one", vault=store.vault).secrets == ()


def test_concurrent_removals_leave_the_last_secret(store: Store) -> None:
    store.add_source("one", secrets=(Secret.generate(), Secret.generate()))
    start = threading.Barrier(2)

    def remove(secret_id: int) -> str:
        start.wait()
        try:
            with store.database.writing() as session:
                sources.remove_secret(session, sources.get(session, "one"), secret_id)
        except LastSecretError:
            return "refused"
        return "removed"

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(remove, (1, 2)))

    assert sorted(results) == ["refused", "removed"]
    assert len(store.rows(SourceSecret)) == 1


def test_new_url_is_asked_for_all_grades(store: Store) -> None:
    store.update(store.add_course("CS101", source="one"), etag='"1"')
    store.update(store.add_course("CS101", source="two"), etag='"2"')

    with store.database.writing() as session:
        source = sources.get(session, "one")
        sources.set_url(session, source, "https://moved.example/", now=NINE)

    one, two = store.entry("CS101", "one"), store.entry("CS101", "two")
    assert (one.source.url, one.etag) == ("https://moved.example", None)
    assert two.etag == '"2"'


def test_url_is_not_changed_during_a_run(store: Store) -> None:
    store.add_source("one", "https://one.example")
    minute = timedelta(minutes=1)
    with store.database.writing() as session:
        lease.acquire(session, "ada@elms", minute, now=NINE)

    with (
        store.database.writing() as session,
        pytest.raises(RunInProgressError, match="a grade sync is running: ada@elms"),
    ):
        sources.set_url(session, sources.get(session, "one"), "https://two.example", now=NINE)

    with store.database.writing() as session:  # a killed run, whose lease has expired
        source = sources.get(session, "one")
        sources.set_url(session, source, "https://two.example", now=NINE + minute)


def test_removed_source_leaves_nothing_behind(store: Store) -> None:
    store.add_source("one", secrets=(Secret.generate(),))
    store.receive("msg_1", make_deleted())
    other = store.add_course("CS101", source="two")

    refusal = LastRefusal(401, "signature-mismatch", "no match", NINE, NINE)
    with store.database.writing() as session:
        sources.store_refusal(session, "one", refusal, now=NINE)
        sources.remove(session, sources.get(session, "one"))

    with pytest.raises(SourceUnknownError), store.database.reading() as session:
        sources.get(session, "one")
    assert [entry.id for entry in store.rows(Entry)] == [other.id]
    assert {line.entry_id for line in store.rows(HistoryEntry)} == {other.id}
    left = [store.rows(table) for table in (InboxMessage, SourceSecret, SourceRefusal)]
    assert left == [[], [], []]


def test_source_in_use_is_not_removed(store: Store) -> None:
    entry = store.add_course("CS101", source="one")
    score = Score(user_id="ada", score_given=Decimal(7), score_maximum=Decimal(10), timestamp=NINE)
    with store.database.writing() as session:
        gradebook.write(session, {entry.id: [score]})
        source = sources.get(session, "one")
        with pytest.raises(SourceInUseError, match="one has 1 course in the grade sync"):
            sources.remove(session, source)
        registry.remove(session, source, "CS101", actor=WEBHOOK, now=NINE)
        with pytest.raises(SourceInUseError, match="one has 1 course with stored grades"):
            sources.remove(session, source)
        gradebook.forget(session, entry_ids=[entry.id])

        sources.remove(session, source)

    assert store.rows(Entry) == []


def test_concurrent_adds_of_a_name_add_one_source(store: Store) -> None:
    start = threading.Barrier(4)

    def add(_: int) -> str:
        start.wait()
        try:
            with store.database.writing() as session:
                sources.add(session, "site", "https://e.example", now=NINE)
        except SourceExistsError as error:
            return str(error)
        return "added"

    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(add, range(4)))

    assert sorted(added) == ["added", *["the source site already exists"] * 3]


def test_only_a_moodle_has_a_site_token(store: Store) -> None:
    source = store.add_source("api")

    with (
        store.database.writing() as session,
        pytest.raises(SourceKindError, match="is not a Moodle"),
    ):
        sources.set_site_token(session, source, SITE_TOKEN, vault=store.vault)
