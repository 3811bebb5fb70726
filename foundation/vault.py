"""What must be read back is stored sealed (Fernet: AES-128-CBC with HMAC-SHA256)."""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from foundation.errors import SealError


class Vault:
    """Seals and opens secrets; the first key seals, every key opens."""

    def __init__(self, keys: SecretStr) -> None:
        self._fernet = MultiFernet(
            [
                Fernet(key.strip().replace("+", "-").replace("/", "_"))
                for key in keys.get_secret_value().split(",")
                if key.strip()
            ]
        )

    def seal(self, secret: str) -> str:
        """Return the secret sealed, as ASCII text."""
        return self._fernet.encrypt(secret.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """Return the secret that was sealed, or raise SealError if no key opens it."""
        try:
            return self._fernet.decrypt(sealed.encode("ascii")).decode()
        except (InvalidToken, UnicodeEncodeError):
            raise SealError(
                "a stored secret was sealed with a key that is not in the list"
            ) from None

    def reseal(self, sealed: str) -> str:
        """Return what was sealed with any key sealed anew with the first one."""
        return self.seal(self.open(sealed))
