"""Users: who may sign in; add, list, change the password, remove."""

import functools
import hashlib
import unicodedata
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.security import check_password_hash, generate_password_hash

from contract.strict_json import is_storable
from foundation.db import session as db
from foundation.pages.errors import (
    NameInvalidError,
    PasswordWeakError,
    UserExistsError,
    UserUnknownError,
)
from foundation.pages.models import MAX_NAME, User

MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 12, 1000
"""The allowed number of characters."""
METHOD = "scrypt:32768:8:1"
"""How passwords are hashed (RFC 7914): with 32 MiB of memory each."""


def add(session: Session, name: str, password: str, *, now: datetime) -> User:
    """Add a user; raises NameInvalidError, PasswordWeakError or UserExistsError."""
    visible = name.isprintable() and name == name.strip()
    if not visible or not 1 <= len(name) <= MAX_NAME or len(normalize_name(name)) > 4 * MAX_NAME:
        raise NameInvalidError(f"{name[:MAX_NAME]!r} cannot be a user's name")
    values = {
        "name": name,
        "name_key": normalize_name(name),
        "password_hash": _hash(name, password),
        "created_at": now,
        "password_changed_at": now,
    }
    added: User | None = session.scalar(
        db.insert(session, User)
        .values(values)
        .on_conflict_do_nothing(index_elements=["name_key"])
        .returning(User)
    )
    if added is None:
        raise UserExistsError(
            f"there is a user {name!r}", advice=UserExistsError.advice.fill("NAME", name)
        )
    return added


def find(session: Session, name: str) -> User | None:
    """Return the user with a name (case-insensitive), or None."""
    return session.scalar(select(User).where(User.name_key == normalize_name(name)))


def get(session: Session, name: str) -> User:
    """Return the user with a name, or raise UserUnknownError."""
    user = find(session, name)
    if user is None:
        raise UserUnknownError(f"there is no user {name!r}")
    return user


def list_all(session: Session) -> list[User]:
    """Return every user by name."""
    return list(session.scalars(select(User).order_by(User.name_key)))


def set_password(session: Session, name: str, password: str, *, now: datetime) -> User:
    """Set a user's password, which ends all of the user's sessions."""
    user = get(session, name)
    user.password_hash = _hash(user.name, password)
    user.password_changed_at = now
    return user


def remove(session: Session, name: str) -> str:
    """Remove a user, which ends all of the user's sessions; return the name as it was given."""
    user = get(session, name)
    session.delete(user)
    return user.name


def is_password_of(user: User | None, password: str) -> bool:
    """Return True if the password is the user's; without a user it takes the same time."""
    stored = user.password_hash if user else _dummy_hash(METHOD)
    return check_password_hash(stored, _normal(password)) and user is not None


def fingerprint(user: User) -> str:
    """Return a value that changes with the password and does not reveal its hash."""
    return hashlib.sha256(user.password_hash.encode()).hexdigest()[:32]


def normalize_name(name: str) -> str:
    """Return a name in the normalized form that is compared (NFKC, case-folded)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _hash(name: str, password: str) -> str:
    """Return the hash of a password, or raise PasswordWeakError."""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        expected = f"{MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH}"
        raise PasswordWeakError(f"{len(password)} characters, where {expected} are expected")
    if not is_storable(password):
        raise PasswordWeakError("the password is not UTF-8")
    if len(set(password)) < 4 or normalize_name(password) == normalize_name(name):
        raise PasswordWeakError("the password is too common")
    return generate_password_hash(_normal(password), method=METHOD)


def _normal(password: str) -> str:
    # Keyboards encode accents differently.
    return unicodedata.normalize("NFC", password)


@functools.cache
def _dummy_hash(method: str) -> str:
    return generate_password_hash("", method=method)
