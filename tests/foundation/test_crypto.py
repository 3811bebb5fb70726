"""The encryption of stored secrets."""

import base64

import pytest
from pydantic import SecretStr

from foundation.crypto import Vault
from foundation.errors import DecryptionError

NEW = base64.b64encode(b"\xfb\xff" * 16).decode()
OLD = base64.b64encode(bytes(32)).decode()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def make_vault(*keys: str) -> Vault:
    """Return a vault with keys; the first one encrypts."""
    return Vault(SecretStr(",".join(keys)))


@pytest.mark.parametrize("secret", [SECRET, "", "Übung 😀"])
def test_encrypted_secret_is_not_readable_and_decrypts_to_itself(secret: str) -> None:
    vault = make_vault(NEW)

    encrypted = {vault.encrypt(secret) for _ in range(3)}

    assert len(encrypted) == 3
    assert all(text.isascii() and SECRET[6:] not in text for text in encrypted)
    assert {vault.decrypt(text) for text in encrypted} == {secret}


def test_first_key_encrypts_and_all_decrypt() -> None:
    new, old, both = make_vault(NEW), make_vault(OLD), make_vault(NEW, OLD)

    assert new.decrypt(both.encrypt(SECRET)) == SECRET
    assert both.decrypt(old.encrypt(SECRET)) == SECRET
    assert new.decrypt(both.reencrypt(old.encrypt(SECRET))) == SECRET


@pytest.mark.parametrize(
    "encrypted",
    [
        pytest.param(make_vault(OLD).encrypt(SECRET), id="other key"),
        pytest.param("", id="empty"),
        pytest.param(SECRET, id="never encrypted"),
        pytest.param("é", id="not ASCII"),
        pytest.param(make_vault(NEW).encrypt(SECRET)[:-4] + "AAA=", id="changed"),
    ],
)
def test_secret_of_no_key_is_refused(encrypted: str) -> None:
    with pytest.raises(DecryptionError) as caught:
        make_vault(NEW).decrypt(encrypted)

    assert str(caught.value) == (
        "a stored secret was encrypted with a key that is not in the settings"
    )
    assert caught.value.advice.text == (
        "Add the key that encrypted it to the list of encryption keys again."
    )


def test_key_has_either_base64_alphabet() -> None:
    urlsafe = base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()

    assert urlsafe != NEW
    assert make_vault(f" {urlsafe} ").decrypt(make_vault(NEW).encrypt(SECRET)) == SECRET
