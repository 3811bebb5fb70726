"""The limit of failed sign-ins, for each name and each IP address."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from foundation.pages.errors import TooManyAttemptsError
from foundation.pages.models import SignInAttempt
from foundation.pages.users import normalize_name

WINDOW = timedelta(minutes=15)
"""Older attempts are deleted."""
MAX_FAILURES_PER_NAME = 10
"""The limit of failures for one name."""
MAX_FAILURES_PER_ADDRESS = 30
"""The limit of failures from one address, which several people may share."""


def register_attempt(session: Session, name: str, address: str, *, now: datetime) -> None:
    """Count an attempt as failed until `reset`, or raise TooManyAttemptsError.

    It is stored before the password is checked, so that concurrent attempts cannot exceed the
    limit. Refused attempts do not count.
    """
    name_hash, network = _digest(name), network_of(address)
    session.execute(delete(SignInAttempt).where(SignInAttempt.at <= now - WINDOW))
    failures = session.execute(
        select(SignInAttempt.name_sha256, SignInAttempt.address, SignInAttempt.at)
        .where(or_(SignInAttempt.name_sha256 == name_hash, SignInAttempt.address == network))
        .order_by(SignInAttempt.at)
    ).all()
    by_name = [row.at for row in failures if row.name_sha256 == name_hash]
    _check(by_name, MAX_FAILURES_PER_NAME, "for this name")
    from_address = [row.at for row in failures if row.address == network]
    _check(from_address, MAX_FAILURES_PER_ADDRESS, "from this address")
    session.add(SignInAttempt(name_sha256=name_hash, address=network, at=now))


def reset(session: Session, name: str) -> None:
    """Delete the attempts for a name after a successful sign-in."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.name_sha256 == _digest(name)))


def _check(failed_at: Sequence[datetime], limit: int, where: str) -> None:
    if len(failed_at) >= limit:
        until = failed_at[-limit] + WINDOW
        raise TooManyAttemptsError(f"too many sign-ins {where} have failed", until=until)


def _digest(name: str) -> str:
    # Not the name itself: people type their password into the wrong field.
    return hashlib.sha256(normalize_name(name).encode(errors="surrogatepass")).hexdigest()


def network_of(address: str) -> str:
    """Return the IP address; for IPv6 its /64 network, which one customer usually has."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ip_network((ip, 64), strict=False))
