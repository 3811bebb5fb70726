"""Settings from the environment or from .env, validated together, without showing a value."""

import base64
import difflib
import re
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from contract.validation import validation_message
from foundation.crypto import split_keys
from foundation.errors import Advice, ConfigurationError

_HOST = re.compile(r"[A-Za-z0-9_.:%-]*", re.ASCII)
# What follows the prefix in the variables that Kubernetes sets for a service of the same name.
_SERVICE_LINK = re.compile(
    r"SERVICE_(HOST|PORT)(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?", re.ASCII
)
_Settings = TypeVar("_Settings", bound="ServiceSettings")
_NOT_UTF8 = "the file .env is not UTF-8"
_GENERATE = Advice(
    "Set what is named in the environment or in .env; .env.example explains each one. What is "
    "missing can be generated.",
    "init",
)


def _database_url(url: str) -> str:
    schemes = ("sqlite:///", "postgresql://", "postgresql+psycopg://")
    try:
        name = make_url(url).database
    except (ArgumentError, ValueError):  # the message would contain the URL with its password
        name = None
    if not url.startswith(schemes) or name in {None, "", ":memory:"}:
        raise ValueError("expected sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    if not url.startswith("sqlite") and _has_unescaped_password(make_url(url)):
        # With an unescaped @ the end of the password would be taken for the host, and shown.
        raise ValueError(
            "expected one @, before the host; in a user name or a password, write @ as %40, "
            "/ as %2F, : as %3A, # as %23, ? as %3F and % as %25"
        )
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _has_unescaped_password(url: URL) -> bool:
    return not _HOST.fullmatch(url.host or "") or "@" in f"{url.database}{''.join(url.query)}"


def _encryption_keys(joined: SecretStr) -> SecretStr:
    keys = split_keys(joined)
    if not keys:
        raise ValueError("expected at least one key")
    for key in keys:
        try:
            raw = base64.urlsafe_b64decode(key)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise ValueError(
                "expected 32 random bytes in base64, as from `openssl rand -base64 32`"
            )
    return joined


DatabaseUrl = Annotated[
    SecretStr, AfterValidator(lambda url: SecretStr(_database_url(url.get_secret_value())))
]
# Comma-separated keys of 32 bytes in base64; the first one encrypts, all of them decrypt.
EncryptionKeys = Annotated[SecretStr, NoDecode, AfterValidator(_encryption_keys)]
_HEADER_VALUE = re.compile(r"[!-~]{12,}", re.ASCII)


def _bearer_secret(secret: SecretStr) -> SecretStr:
    if secret.get_secret_value() and not _HEADER_VALUE.fullmatch(secret.get_secret_value()):
        raise ValueError(
            "expected at least 12 visible ASCII characters, such as the output of "
            "`openssl rand -hex 32`, or nothing"
        )
    return secret


# A secret that a header can carry, or nothing.
BearerSecret = Annotated[SecretStr, AfterValidator(_bearer_secret)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
# A number of days, or nothing.
Days = Annotated[
    Annotated[int, Field(ge=1, le=36_500)] | None,
    BeforeValidator(lambda days: None if days == "" else days),
]


def _ca_bundle(bundle: str) -> str:
    if not bundle:
        return bundle
    if not Path(bundle).is_file():
        raise ValueError("expected a PEM file of certificates, but there is no such file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(bundle)
    except ssl.SSLError:
        raise ValueError("expected a PEM file of certificates, but it contains none") from None
    except OSError as error:
        raise ValueError(f"expected a PEM file of certificates: {error.strerror}") from None
    return bundle


_PATH_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", re.ASCII)


def _path_prefix(path: str) -> str:
    prefix = path.rstrip("/")
    if not _PATH_PREFIX.fullmatch(prefix):
        raise ValueError("expected a path such as /webhooks-admin, or nothing")
    return prefix


# A path without a slash at its end, or nothing.
PathPrefix = Annotated[str, AfterValidator(_path_prefix)]
# The path of a PEM file of certificate authorities, or nothing.
CaBundle = Annotated[str, AfterValidator(_ca_bundle)]


class ServiceSettings(BaseSettings):
    """The settings that both services have."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=False,
    )

    encryption_keys: EncryptionKeys = Field(
        description="Comma-separated keys that encrypt the stored secrets: the first one encrypts, "
        "all of them decrypt. Generate one with `openssl rand -base64 32`."
    )
    database_url: DatabaseUrl
    database_timeout: Seconds = Field(
        5.0, description="Seconds to wait for a busy database before giving up."
    )
    forget_grades_after_days: Days = Field(
        None,
        description="Number of days after the deletion of a course, after which `db prune` deletes "
        "the grades that are stored of it. If empty, they are kept.",
    )
    host: Annotated[str, Field(min_length=1)] = Field(
        "127.0.0.1", description="Address that `serve` listens on."
    )
    port: Annotated[int, Field(ge=1, le=65535)]
    path_prefix: PathPrefix = Field(
        "",
        description="Path under which a web server in front of `serve` publishes the service, "
        "for example `/webhooks-admin`. If empty, the service has a host name of its own.",
    )
    web_threads: Annotated[int, Field(ge=1, le=64)] = Field(
        8, description="Number of requests that `serve` handles at the same time."
    )
    metrics_token: BearerSecret = Field(
        SecretStr(""),
        description="Bearer token for `/metrics`, at least 12 characters. "
        "If empty, anyone who can reach the service can read its metrics.",
    )
    ca_bundle: CaBundle = Field(
        "",
        description="PEM file of certificate authorities to trust, "
        "in addition to those of the system and of certifi.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level of the log messages to write."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto",
        description="`text` for people, `json` for machines; `auto` is `text` on a terminal.",
    )

    def forgets_grades_before(self, now: datetime) -> datetime | None:
        """Return before which time a course must have been deleted so that its grades are too.

        None if they are kept.
        """
        days = self.forget_grades_after_days
        return None if days is None else now - timedelta(days=days)


def variable(settings: type[ServiceSettings], field: str) -> str:
    """Return the name of the environment variable of a setting."""
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def given_variables(settings: type[ServiceSettings]) -> dict[str, str]:
    """Return the variables, also of .env, that have the prefix of the settings, with their values.

    The environment comes before .env.
    """
    given: dict[str, str] = {}
    try:
        sources = DotEnvSettingsSource(settings), EnvSettingsSource(settings)
    except UnicodeDecodeError:
        raise ConfigurationError(_NOT_UTF8) from None
    for source in sources:
        given |= {name.upper(): value or "" for name, value in source.env_vars.items()}
    prefix = variable(settings, "")
    return {name: value for name, value in sorted(given.items()) if name.startswith(prefix)}


def unknown_variables(settings: type[ServiceSettings]) -> dict[str, str | None]:
    """Return the given variables that are none of the settings.

    The value is the setting that may have been meant, if there is one with a similar name.
    """
    prefix = variable(settings, "")
    known = [field.upper() for field in settings.model_fields]
    unknown: dict[str, str | None] = {}
    for name in given_variables(settings):
        rest = name.removeprefix(prefix)
        if rest not in known and not _SERVICE_LINK.fullmatch(rest):
            meant = difflib.get_close_matches(rest, known, n=1, cutoff=0.7)
            unknown[name] = prefix + meant[0] if meant else None
    return unknown


def env_file(settings: type[ServiceSettings]) -> Path:
    """Return the full path of .env, which need not exist."""
    return Path(str(settings.model_config.get("env_file"))).absolute()


def load(settings: type[_Settings], **values: Any) -> _Settings:
    """Return the settings, or raise a ConfigurationError that names every error and no value.

    `values` come before those of the environment and .env.
    """
    try:
        return settings(**values)
    except UnicodeDecodeError:
        raise ConfigurationError(_NOT_UTF8) from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        messages = [
            "".join(f"{variable(settings, str(field))}: " for field in fault["loc"][:1])
            + validation_message(fault)
            for fault in faults
        ]
        is_missing = any(fault["type"] == "missing" for fault in faults)
        advice = _GENERATE if is_missing else None
        raise ConfigurationError("; ".join(messages), advice=advice) from None
