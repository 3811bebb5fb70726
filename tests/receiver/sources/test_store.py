"""Sources: eAssessment sites, their webhook secrets and site tokens."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.errors import DecryptionError
from receiver.errors import (
    SecretExistsError,
    SecretUnknownError,
    SourceExistsError,
    SourceInvalidError,
    SourceKindError,
    SourceUnclearError,
    SourceUnknownError,
)
from receiver.models import MOODLE
from receiver.sources import store as sources
from tests.receiver.conftest import ENCRYPTION_KEY, NINE, Store

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
        with pytest.raises(DecryptionError, match="a key that is not in the settings"):
            sources.get_webhook_source(session, "one", vault=other_vault)

    assert found == sources.WebhookSource(source.id, "one", (old, new))
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

        sources.remove_secret(session, one, number)

    with store.database.reading() as session:
        assert sources.get_webhook_source(session, "one", vault=store.vault).secrets == ()


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
