"""The settings of ELMS, from the environment."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from contract.tokens import MoodleToken
from foundation.config import DatabaseUrl, Seconds, ServiceSettings
from foundation.http import hosts

# How much longer than a request the lease of a sync must be, to store the result.
LEASE_MARGIN_SECONDS = 30.0


def _site_url(url: str) -> str:
    if url and (fault := hosts.site_url_error(url)):
        raise ValueError(fault)
    return url.rstrip("/")


def _moodle_token(token: SecretStr) -> SecretStr:
    if token.get_secret_value():
        MoodleToken.parse(token.get_secret_value())
    return token


class Settings(ServiceSettings):
    """The settings; the environment variable of each field is `RECEIVER_…`."""

    model_config = SettingsConfigDict(env_prefix="RECEIVER_")

    database_url: DatabaseUrl = Field(
        SecretStr("sqlite:///receiver.db"),
        description="URL of ELMS's database: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8002, description="Port that `serve` listens on."
    )
    connect_timeout: Seconds = Field(
        5.0, description="Maximum seconds for eAssessment to accept a connection."
    )
    read_timeout: Seconds = Field(
        45.0,
        description="Maximum seconds between two parts of a response from eAssessment.",
    )
    request_deadline: Seconds = Field(
        60.0,
        description="Maximum seconds for a request to eAssessment, however slow the response is.",
    )
    moodle_timeout: Seconds = Field(
        240.0,
        description="Maximum seconds for a response of a Moodle, which sends nothing before the "
        "grade report of a whole course is complete.",
    )
    sync_concurrency: Annotated[int, Field(ge=1, le=32)] = Field(
        4, description="Number of concurrent requests of a grade sync."
    )
    sync_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        2,
        description="How often a grade sync repeats a request that failed temporarily, "
        "each time after a longer wait.",
    )
    sync_deadline: Seconds = Field(
        3600.0,
        description="Maximum seconds for a grade sync; "
        "the next one fetches what this one did not get to.",
    )
    sync_lease: Seconds = Field(
        300.0,
        description="Seconds after which a killed grade sync no longer blocks the next one, "
        f"at least {LEASE_MARGIN_SECONDS:g} more than `RECEIVER_REQUEST_DEADLINE`.",
    )

    gradebook_url: Annotated[str, AfterValidator(_site_url)] = Field(
        "",
        description="URL of ELMS if it is a Moodle that grades are written to, for example "
        "`https://elms.example.ac.uk`. If empty, grades go into ELMS's database.",
    )
    gradebook_token: Annotated[SecretStr, AfterValidator(_moodle_token)] = Field(
        SecretStr(""),
        description="Web service token of that Moodle.",
    )

    @property
    def elms_is_moodle(self) -> bool:
        """Whether grades go into the gradebook of a Moodle instead of ELMS's own database."""
        return bool(self.gradebook_url)

    def webhook_path(self, source: str) -> str:
        """Return the path of a source's webhook URL."""
        return f"{self.path_prefix}/webhooks/{source}"

    @model_validator(mode="after")
    def _gradebook_has_both(self) -> "Settings":
        if bool(self.gradebook_url) != bool(self.gradebook_token.get_secret_value()):
            raise ValueError(
                "RECEIVER_GRADEBOOK_URL and RECEIVER_GRADEBOOK_TOKEN belong together: "
                "set both, or neither"
            )
        return self

    @model_validator(mode="after")
    def _lease_outlasts_a_request(self) -> "Settings":
        if self.sync_lease < self.request_deadline + LEASE_MARGIN_SECONDS:
            raise ValueError(
                "RECEIVER_SYNC_LEASE must be at least "
                f"{LEASE_MARGIN_SECONDS:g} seconds longer than RECEIVER_REQUEST_DEADLINE"
            )
        return self
