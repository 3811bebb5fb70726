"""Sources: eAssessment sites, their webhook secrets and site tokens."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
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
from receiver.models import MOODLE, Source, SourceSecret
from receiver.sources import store as sources

OTHER_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="


def test_webhook_source_has_all_secrets_of_its_source(
    database: Database, vault: Vault, make_source: Callable[..., Source]
) -> None:
    old, new, strange = Secret.generate(), Secret.generate(), Secret.generate()
    source = make_source("one", secrets=(old, new))
    make_source("two", secrets=(strange,))

    with database.reading() as session:
        found = sources.get_webhook_source(session, "one", vault=vault)

    assert found == sources.WebhookSource(source.id, "one", (old, new))


def test_secrets_are_stored_encrypted(
    make_source: Callable[..., Source], rows: Callable[[type[SourceSecret]], list[SourceSecret]]
) -> None:
    secret = Secret.generate()

    make_source(secrets=(secret,))

    assert secret.reveal() not in rows(SourceSecret)[0].encrypted
    assert secret.reveal() not in repr(sources.WebhookSource(1, "one", (secret,)))


def test_unknown_key_decrypts_nothing(
    database: Database, make_source: Callable[..., Source]
) -> None:
    make_source("one", secrets=(Secret.generate(),))

    with (
        database.reading() as session,
        pytest.raises(DecryptionError, match="a key that is not in the settings"),
    ):
        sources.get_webhook_source(session, "one", vault=Vault(SecretStr(OTHER_KEY)))


def test_reencrypted_secrets_need_only_the_new_key(
    database: Database, vault: Vault, make_source: Callable[..., Source]
) -> None:
    secret = Secret.generate()
    make_source("one", secrets=(secret,))
    both = Vault(SecretStr(f"{OTHER_KEY},MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))

    with database.writing() as session:
        count = sources.reencrypt(session, vault=both)

    with database.reading() as session:
        found = sources.get_webhook_source(session, "one", vault=Vault(SecretStr(OTHER_KEY)))
    assert (count, found.secrets) == (1, (secret,))


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
def test_invalid_source_is_refused(
    database: Database, now: datetime, name: str, url: str, message: str
) -> None:
    with database.writing() as session, pytest.raises(SourceInvalidError, match=message):
        sources.add(session, name, url, now=now)


def test_names_are_unique(make_source: Callable[..., Source]) -> None:
    make_source("one")

    with pytest.raises(SourceExistsError, match="the source one already exists"):
        make_source("one")


@pytest.mark.parametrize("name", ["none", "a/b", "nul\x00"])
def test_unknown_source_is_refused(database: Database, name: str) -> None:
    with database.reading() as session, pytest.raises(SourceUnknownError, match="there is no"):
        sources.get(session, name)


def test_only_source_is_the_default(database: Database, make_source: Callable[..., Source]) -> None:
    with database.reading() as session, pytest.raises(SourceUnclearError, match="no source yet"):
        sources.choose(session, None)
    make_source("one")
    with database.reading() as session:
        assert sources.choose(session, None).name == "one"
    make_source("two")
    with database.reading() as session:
        assert sources.choose(session, "two").name == "two"
        with pytest.raises(SourceUnclearError, match="2 sources, and none was given"):
            sources.choose(session, None)


def test_secret_is_removed(
    database: Database, vault: Vault, now: datetime, make_source: Callable[..., Source]
) -> None:
    secret = Secret.generate()
    make_source("one", secrets=(secret,))
    make_source("two")
    with database.writing() as session:
        one, two = sources.get(session, "one"), sources.get(session, "two")
        with pytest.raises(SecretExistsError, match="already has this secret"):
            sources.add_secret(session, one, secret, vault=vault, now=now)
        number = one.secrets[0].id
        with pytest.raises(SecretUnknownError, match=f"two has no secret {number}"):
            sources.remove_secret(session, two, number)

        sources.remove_secret(session, one, number)

    with database.reading() as session:
        assert sources.get_webhook_source(session, "one", vault=vault).secrets == ()


def test_concurrent_adds_of_a_name_add_one_source(database: Database) -> None:
    start = threading.Barrier(4)

    def add(_: int) -> bool:
        start.wait()
        try:
            with database.writing() as session:
                sources.add(session, "site", "https://e.example", now=datetime.now(UTC))
        except SourceExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(add, range(4)))

    assert sorted(added) == [False, False, False, True]


class TestSiteToken:
    """The site token of a Moodle."""

    TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")

    def test_site_token_is_encrypted_and_reencrypted(
        self, database: Database, vault: Vault, everything: Callable[[], str], now: datetime
    ) -> None:
        both = Vault(SecretStr(f"{OTHER_KEY},MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
        with database.writing() as session:
            source = sources.add(session, "m", "https://m.example", MOODLE, now=now)
            held_before = sources.site_token_of(source, vault=vault)
            sources.set_site_token(session, source, MoodleToken("f" * 32), vault=vault)
            sources.set_site_token(session, source, self.TOKEN, vault=vault)

        with database.writing() as session:
            count = sources.reencrypt(session, vault=both)

        with database.reading() as session:
            source = sources.get(session, "m")
            held = sources.site_token_of(source, vault=Vault(SecretStr(OTHER_KEY)))
            encrypted = sources.ciphertexts_of(source)
        assert (held_before, count, held, len(encrypted)) == (None, 1, self.TOKEN, 1)
        assert self.TOKEN.reveal() not in everything()

    def test_only_moodle_has_site_token(
        self, database: Database, vault: Vault, now: datetime
    ) -> None:
        with database.writing() as session:
            source = sources.add(session, "api", "https://a.example", now=now)
            with pytest.raises(SourceKindError, match="is not a Moodle"):
                sources.set_site_token(session, source, self.TOKEN, vault=vault)
