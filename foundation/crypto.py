"""What must be read back is stored sealed (Fernet: AES-128-CBC with HMAC-SHA256)."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from foundation.errors import DecryptionError


class Vault:
    """Seals and opens secrets; the first key seals, every key opens."""

    def __init__(self, keys: SecretStr) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in _listed(keys)])

    def encrypt(self, secret: str) -> str:
        """Return the secret sealed, as ASCII text."""
        return self._fernet.encrypt(secret.encode()).decode("ascii")

    def decrypt(self, encrypted: str) -> str:
        """Return the secret that was sealed, or raise SealError if no key opens it."""
        try:
            return self._fernet.decrypt(encrypted.encode("ascii")).decode()
        except (InvalidToken, UnicodeEncodeError):
            raise DecryptionError(
                "a stored secret was sealed with a key that is not in the list"
            ) from None

    def reencrypt(self, encrypted: str) -> str:
        """Return what was sealed with any key sealed anew with the first one."""
        return self.encrypt(self.decrypt(encrypted))


def derive(keys: SecretStr, purpose: str) -> Sequence[str]:
    """Return a key for another purpose from each of the keys, in their order (HKDF, RFC 5869)."""
    return [
        HKDF(SHA256(), length=32, salt=None, info=purpose.encode())
        .derive(base64.urlsafe_b64decode(key))
        .hex()
        for key in _listed(keys)
    ]


def _listed(keys: SecretStr) -> list[str]:
    return [
        key.strip().replace("+", "-").replace("/", "_")
        for key in keys.get_secret_value().split(",")
        if key.strip()
    ]
