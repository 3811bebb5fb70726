"""The tables of users, recent sign-in attempts and ended sessions."""

from datetime import datetime

from sqlalchemy import MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from foundation.db.session import NAMING, NEVER_REUSED, UtcDateTime

MAX_NAME = 100
"""The maximum length of a user's name."""


class Base(DeclarativeBase):
    """The base class of these tables, which each service has in its own database."""

    metadata = MetaData(naming_convention=NAMING)


class User(Base):
    """An account. Ids are never reused, because sessions refer to them.

    `name_key` is the normalized name.
    """

    __tablename__ = "users"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    name_key: Mapped[str] = mapped_column(String(4 * MAX_NAME), unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    password_changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SignInAttempt(Base):
    """A sign-in that failed or is in progress, by hashed name and IP address."""

    __tablename__ = "sign_in_failures"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name_sha256: Mapped[str] = mapped_column(String(64), index=True)
    address: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class EndedSession(Base):
    """A session that was signed out, kept until it would have ended by itself."""

    __tablename__ = "ended_sessions"

    session_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    ends_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


def add_user_tables(metadata: MetaData) -> None:
    """Add these tables to those of a service."""
    for table in Base.metadata.sorted_tables:
        table.to_metadata(metadata)
