"""Tests of the encryption of stored secrets."""

import base64

import pytest
from pydantic import SecretStr

from foundation.crypto import Vault
from foundation.errors import DecryptionError

NEW = base64.b64encode(bytes(range(224, 256))).decode()
OLD = base64.b64encode(bytes(32)).decode()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def make_vault(*keys: str) -> Vault:
    """Return a vault with keys, the sealing one first."""
    return Vault(SecretStr(",".join(keys)))


@pytest.mark.parametrize("secret", [SECRET, "", "Übung 😀", "x" * 10_000])
def test_encrypted_secret_decrypts_to_itself(secret: str) -> None:
    vault = make_vault(NEW)

    assert vault.decrypt(vault.encrypt(secret)) == secret


def test_encrypted_secret_is_not_readable() -> None:
    vault = make_vault(NEW)

    encrypted = [vault.encrypt(SECRET) for _ in range(3)]

    assert len(set(encrypted)) == 3
    assert all(
        text.isascii() and SECRET not in text and SECRET[6:] not in text for text in encrypted
    )


def test_older_key_decrypts() -> None:
    encrypted = make_vault(OLD).encrypt(SECRET)

    assert make_vault(NEW, OLD).decrypt(encrypted) == SECRET


def test_first_key_encrypts() -> None:
    encrypted = make_vault(NEW, OLD).encrypt(SECRET)

    assert make_vault(NEW).decrypt(encrypted) == SECRET
    with pytest.raises(DecryptionError, match="encrypted with a key that is not in the settings"):
        make_vault(OLD).decrypt(encrypted)


def test_reencrypt_uses_the_first_key() -> None:
    encrypted = make_vault(OLD).encrypt(SECRET)

    moved = make_vault(NEW, OLD).reencrypt(encrypted)

    assert make_vault(NEW).decrypt(moved) == SECRET


@pytest.mark.parametrize(
    "encrypted",
    [
        pytest.param(make_vault(OLD).encrypt(SECRET), id="another key's"),
        pytest.param("", id="nothing"),
        pytest.param(SECRET, id="a secret that was never sealed"),
        pytest.param("gAAAA", id="cut short"),
        pytest.param("é", id="not ASCII"),
        pytest.param(make_vault(NEW).encrypt(SECRET)[:-4] + "AAA=", id="changed"),
    ],
)
def test_what_no_key_opens_is_refused(encrypted: str) -> None:
    with pytest.raises(DecryptionError) as caught:
        make_vault(NEW).decrypt(encrypted)

    assert (
        str(caught.value) == "a stored secret was encrypted with a key that is not in the settings"
    )
    assert caught.value.advice.text == (
        "Add the key that encrypted it to the list of encryption keys again."
    )


def test_a_key_is_read_in_either_base64() -> None:
    standard = base64.b64encode(b"\xfb\xff" * 16).decode()
    urlsafe = base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()

    assert standard != urlsafe
    assert make_vault(f" {urlsafe} ").decrypt(make_vault(standard).encrypt(SECRET)) == SECRET
