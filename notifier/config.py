"""The settings of eAssessment, read from the environment."""

import re
from datetime import timedelta
from math import ceil
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from contract.events import HeartbeatSeconds, SourceName
from foundation.config import BearerSecret, DatabaseUrl, Seconds, ServiceSettings
from foundation.http.ssrf import Guard, parse_guard

# Seconds that a lease must last beyond the attempt's deadline: the time to settle.
LEASE_MARGIN_SECONDS = 5.0
# An attempt begins in the first quarter of its lease, or not at all, see `worker.worker`.
_LEFT_OF_LEASE = 0.75


def _check_admin_key(key: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{32,}", key.get_secret_value(), re.ASCII):
        raise ValueError(
            "expected 32 or more visible ASCII characters, as `openssl rand -hex 32` makes"
        )
    return key


# A bearer key; characters that a header cannot carry are refused.
AdminKey = Annotated[SecretStr, AfterValidator(_check_admin_key)]


def _allowed_hosts(listed: str) -> str:
    parse_guard(listed, loopback=False)
    return listed


class Settings(ServiceSettings):
    """The settings; each field is `NOTIFIER_…` in the environment."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_")

    admin_key: AdminKey = Field(
        description="Bearer key for the admin API, at least 32 characters. "
        "Generate one with `openssl rand -hex 32`."
    )
    database_url: DatabaseUrl = Field(
        SecretStr("sqlite:///notifier.db"),
        description="URL of eAssessment's database: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.",
    )
    source: SourceName = Field(
        "eassessment",
        description="Name of this site in every event. "
        "ELMS must add the site as a source of the same name.",
    )
    ingest_secret: BearerSecret = Field(
        SecretStr(""),
        description="Secret that a Moodle sends with its events, at least 12 characters. "
        "If empty, the route for these events is switched off.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8001, description="Port that `serve` listens on."
    )
    worker_threads: Annotated[int, Field(ge=1, le=100)] = Field(
        32,
        description="Maximum number of concurrent attempts per worker process. Up to 512 more "
        "may be in progress that have taken longer than 0.3 seconds.",
    )
    endpoint_concurrency: Annotated[int, Field(ge=1, le=100)] = Field(
        8,
        description="Maximum number of concurrent attempts per endpoint. It applies to each "
        "`notifier work` on its own, and is shared by the processes of one.",
    )
    endpoint_rate: Annotated[float, Field(ge=0.1, le=10_000)] = Field(
        500.0,
        description="Maximum number of attempts per second and endpoint. It applies to each "
        "`notifier work` on its own, and is shared by the processes of one.",
    )
    disable_after_days: Annotated[float, Field(gt=0, le=365)] = Field(
        5.0,
        description="Number of days an endpoint may fail without a single good response before "
        "it is disabled and its deliveries are held.",
    )
    restore_days: Annotated[float, Field(ge=0, le=365)] = Field(
        30.0,
        description="Number of days after its deletion during which a course can be restored. "
        "Then the deletion is final; with 0 it always is.",
    )
    allowed_hosts: Annotated[str, AfterValidator(_allowed_hosts)] = Field(
        "",
        description="Comma-separated host names, addresses and CIDR networks that events may be "
        "sent to although they are not global. All other non-global addresses are blocked.",
    )
    allow_loopback: bool = Field(
        False,
        description="Allow sending events to this machine itself, also over plain http. "
        "For development only.",
    )
    connect_timeout: Seconds = Field(
        5.0,
        description="Maximum seconds for each of the DNS lookup, the connection and the TLS "
        "handshake of an attempt.",
    )
    attempt_deadline: Seconds = Field(
        15.0, description="Maximum seconds for an attempt, however slow the response is."
    )
    lease: Seconds = Field(
        60.0,
        description="Seconds for which a worker claims a delivery. Three quarters of them must be "
        f"at least {LEASE_MARGIN_SECONDS:g} more than `NOTIFIER_ATTEMPT_DEADLINE`.",
    )
    poll_interval: Seconds = Field(
        1.0,
        description="Seconds between checks for due retries. New events wake the worker at once.",
    )
    heartbeat_interval: HeartbeatSeconds = Field(
        3600,
        description="Seconds in which an endpoint is sent a ping if no new event was delivered "
        "to it, so that ELMS notices that it receives nothing. 0 switches heartbeats off; then "
        "send a ping once, which tells ELMS.",
    )

    @property
    def grace_period(self) -> timedelta:
        """How long after its deletion a course can be restored."""
        return timedelta(days=self.restore_days)

    @property
    def guard(self) -> Guard:
        """The rules for addresses that events may be sent to."""
        return parse_guard(self.allowed_hosts, loopback=self.allow_loopback)

    @model_validator(mode="after")
    def _check_lease(self) -> "Settings":
        shortest = (self.attempt_deadline + LEASE_MARGIN_SECONDS) / _LEFT_OF_LEASE
        if self.lease < shortest:
            raise ValueError(
                f"NOTIFIER_LEASE must be at least {ceil(shortest)} with a "
                f"NOTIFIER_ATTEMPT_DEADLINE of {self.attempt_deadline:g}"
            )
        return self
