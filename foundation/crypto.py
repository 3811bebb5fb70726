"""Encryption of stored secrets (Fernet: AES-128-CBC with HMAC-SHA256)."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from foundation.errors import DecryptionError


class Vault:
    """Encrypts and decrypts secrets: the first key encrypts, all keys decrypt."""

    def __init__(self, keys: SecretStr) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in split_keys(keys)])

    def encrypt(self, secret: str) -> str:
        """Return the encrypted secret as ASCII text."""
        return self._fernet.encrypt(secret.encode()).decode("ascii")

    def decrypt(self, encrypted: str) -> str:
        """Return the secret, or raise DecryptionError if no key decrypts it."""
        try:
            return self._fernet.decrypt(encrypted.encode("ascii")).decode()
        except (InvalidToken, UnicodeEncodeError):
            raise DecryptionError(
                "a stored secret was encrypted with a key that is not in the settings"
            ) from None

    def reencrypt(self, encrypted: str) -> str:
        """Return a secret that any key encrypted, encrypted again with the first one."""
        return self.encrypt(self.decrypt(encrypted))


def derive(keys: SecretStr, purpose: str) -> Sequence[str]:
    """Return a key for another purpose from each of the keys, in order (HKDF, RFC 5869)."""
    return [
        HKDF(SHA256(), length=32, salt=None, info=purpose.encode())
        .derive(base64.urlsafe_b64decode(key))
        .hex()
        for key in split_keys(keys)
    ]


def split_keys(keys: SecretStr) -> list[str]:
    """Return the keys of a comma-separated list, in the URL-safe alphabet of base64."""
    return [
        key.strip().replace("+", "-").replace("/", "_")
        for key in keys.get_secret_value().split(",")
        if key.strip()
    ]
