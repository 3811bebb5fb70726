"""ELMS's settings: the one place that reads the environment."""

from typing import Annotated

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from foundation.settings import DatabaseUrl, Seconds, ServiceSettings

LEASE_MARGIN_SECONDS = 30.0
"""What the sync's lease must last beyond one request: the time to store what came of it."""


class Settings(ServiceSettings):
    """What ELMS is set up with; each field is `RECEIVER_…` in the environment."""

    model_config = SettingsConfigDict(env_prefix="RECEIVER_")

    database_url: DatabaseUrl = Field(
        SecretStr("sqlite:///receiver.db"),
        description="ELMS's database: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8002, description="Port that `serve` listens on."
    )
    connect_timeout: Seconds = Field(
        5.0, description="Seconds that eAssessment may take to accept a connection."
    )
    read_timeout: Seconds = Field(
        45.0,
        description="Seconds that eAssessment may stay silent while it answers; below 30 the "
        "largest courses of a Moodle are cut off.",
    )
    request_deadline: Seconds = Field(
        60.0,
        description="Seconds that one request to eAssessment may take in all, "
        "however slowly it is answered.",
    )
    sync_concurrency: Annotated[int, Field(ge=1, le=32)] = Field(
        4, description="Requests that a grade sync has under way at the same time."
    )
    sync_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        2,
        description="How often a grade sync asks again, each time after a longer wait, "
        "where a request failed for now.",
    )
    sync_deadline: Seconds = Field(
        3600.0,
        description="Seconds that a grade sync may take in all; "
        "what it has not asked for by then the next one asks for.",
    )
    sync_lease: Seconds = Field(
        300.0,
        description="Seconds after which a grade sync that was killed no longer bars the next one; "
        f"{LEASE_MARGIN_SECONDS:g} more than a request's deadline at the least.",
    )

    @model_validator(mode="after")
    def _lease_outlasts_a_request(self) -> "Settings":
        if self.sync_lease < self.request_deadline + LEASE_MARGIN_SECONDS:
            raise ValueError(
                "RECEIVER_SYNC_LEASE must be longer than RECEIVER_REQUEST_DEADLINE "
                f"by {LEASE_MARGIN_SECONDS:g} seconds or more"
            )
        return self
