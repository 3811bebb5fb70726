"""eAssessment's settings: the one place that reads the environment."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from contract.events import SourceName
from foundation.config import BearerSecret, DatabaseUrl, Seconds, ServiceSettings
from foundation.http.ssrf import Guard, parse_guard

LEASE_MARGIN_SECONDS = 5.0
"""What a lease must last beyond the attempt's deadline: the time to settle."""


_SENDABLE_KEY = re.compile(r"[!-~]{32,}", re.ASCII)


def _sendable(key: SecretStr) -> SecretStr:
    if not _SENDABLE_KEY.fullmatch(key.get_secret_value()):
        raise ValueError(
            "expected 32 or more visible ASCII characters, as `openssl rand -hex 32` makes"
        )
    return key


AdminKey = Annotated[SecretStr, AfterValidator(_sendable)]
"""A bearer key: what a header cannot carry, nobody could ever show."""


def _allowed_hosts(listed: str) -> str:
    parse_guard(listed, loopback=False)
    return listed


class Settings(ServiceSettings):
    """What eAssessment is set up with; each field is `NOTIFIER_…` in the environment."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_")

    admin_key: AdminKey = Field(
        description="The bearer key of the admin API, 32 characters or more. "
        "Make one with `openssl rand -hex 32`."
    )
    database_url: DatabaseUrl = Field(
        SecretStr("sqlite:///notifier.db"),
        description="eAssessment's database: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.",
    )
    source: SourceName = Field(
        "eassessment",
        description="This site's name in every event; ELMS knows the site by the same name.",
    )
    ingest_secret: BearerSecret = Field(
        SecretStr(""),
        description="The secret by which a Moodle's events are taken in, 12 characters or more; "
        "while it is not set, none is.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8001, description="Port that `serve` listens on."
    )
    worker_threads: Annotated[int, Field(ge=1, le=100)] = Field(
        32, description="Attempts that one worker makes at the same time."
    )
    endpoint_concurrency: Annotated[int, Field(ge=1, le=100)] = Field(
        8, description="Attempts that one worker makes at the same endpoint at the same time."
    )
    endpoint_rate: Annotated[float, Field(ge=0.1, le=10_000)] = Field(
        500.0,
        description="Attempts that one worker starts at one endpoint in a second, at the most.",
    )
    disable_after_days: Annotated[float, Field(gt=0, le=365)] = Field(
        5.0,
        description="Days for which an endpoint may fail, without one good answer, before it is "
        "disabled and its deliveries held.",
    )
    allowed_hosts: Annotated[str, AfterValidator(_allowed_hosts)] = Field(
        "",
        description="Hosts, addresses and networks in CIDR, comma-separated, that events may be "
        "sent to though they are not global; all else that is not is barred.",
    )
    allow_loopback: bool = Field(
        False,
        description="Let events be sent to this machine itself, over plain http too; "
        "for development only.",
    )
    connect_timeout: Seconds = Field(
        5.0,
        description="Seconds that an attempt may take to resolve its host's name, to connect, "
        "and to shake hands, for each of them.",
    )
    attempt_deadline: Seconds = Field(
        15.0, description="Seconds that an attempt may take in all, however slowly it is answered."
    )
    lease: Seconds = Field(
        60.0,
        description="Seconds that a worker may hold a delivery; "
        f"{LEASE_MARGIN_SECONDS:g} more than the attempt's deadline at the least.",
    )
    poll_interval: Seconds = Field(
        0.2, description="Seconds between two looks for due deliveries while there are none."
    )

    @property
    def guard(self) -> Guard:
        """The addresses that events may be sent to."""
        return parse_guard(self.allowed_hosts, loopback=self.allow_loopback)

    @model_validator(mode="after")
    def _lease_outlasts_an_attempt(self) -> "Settings":
        if self.lease < self.attempt_deadline + LEASE_MARGIN_SECONDS:
            raise ValueError(
                "NOTIFIER_LEASE must be longer than NOTIFIER_ATTEMPT_DEADLINE "
                f"by {LEASE_MARGIN_SECONDS:g} seconds or more"
            )
        return self
