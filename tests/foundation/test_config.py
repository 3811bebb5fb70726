"""Tests of the settings that both services have."""

import base64
import os
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from foundation import config
from foundation.config import ServiceSettings
from foundation.crypto import Vault
from foundation.errors import ConfigurationError

KEY = base64.b64encode(b"\xfb\xff" * 16).decode()
OTHER_KEY = base64.urlsafe_b64encode(b"\xfe\xef" * 16).decode()


class SampleSettings(ServiceSettings):
    """The settings of a sample service."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    port: Annotated[int, Field(ge=1, le=65535)] = 8100
    admin_key: Annotated[str, Field(min_length=24)]


GOOD = {
    "SAMPLE_ENCRYPTION_KEYS": KEY,
    "SAMPLE_DATABASE_URL": "sqlite:///sample.db",
    "SAMPLE_ADMIN_KEY": "k" * 24,
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the variables of this machine and leave its .env."""
    for name in [name for name in os.environ if name.upper().startswith("SAMPLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with the required settings."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal() -> ConfigurationError:
    """Return the error of loading the settings."""
    with pytest.raises(ConfigurationError) as caught:
        config.load(SampleSettings)
    return caught.value


def test_other_settings_have_defaults(environment: pytest.MonkeyPatch) -> None:
    loaded = config.load(SampleSettings)

    assert loaded.port == 8100
    assert loaded.host == "127.0.0.1"
    assert loaded.database_timeout == 5.0
    assert loaded.web_threads == 8
    assert (loaded.log_level, loaded.log_format) == ("INFO", "auto")
    assert loaded.database_url.get_secret_value() == "sqlite:///sample.db"


def test_all_missing_settings_are_named() -> None:
    refused = refusal()

    assert str(refused) == (
        "SAMPLE_ENCRYPTION_KEYS: is missing; SAMPLE_DATABASE_URL: is missing; "
        "SAMPLE_ADMIN_KEY: is missing"
    )
    assert ".env.example explains each one" in refused.advice.text


def test_all_invalid_settings_are_named_without_a_value(
    environment: pytest.MonkeyPatch,
) -> None:
    planted = {
        "SAMPLE_ENCRYPTION_KEYS": "hunter2",
        "SAMPLE_DATABASE_URL": "mysql://hunter2@there/db",
        "SAMPLE_ADMIN_KEY": "hunter2",
        "SAMPLE_PORT": "hunter2",
        "SAMPLE_DATABASE_TIMEOUT": "hunter2",
        "SAMPLE_WEB_THREADS": "0",
        "SAMPLE_LOG_LEVEL": "hunter2",
    }
    for name, value in planted.items():
        environment.setenv(name, value)

    refused = refusal()

    assert {fault.split(":")[0] for fault in str(refused).split("; ")} == set(planted)
    assert "hunter2" not in f"{refused!s} {refused!r} {refused.advice} {refused.facts}"
    assert refused.__suppress_context__


def test_empty_variable_is_not_a_missing_one(environment: pytest.MonkeyPatch) -> None:
    for name in ("SAMPLE_ENCRYPTION_KEYS", "SAMPLE_DATABASE_URL", "SAMPLE_ADMIN_KEY"):
        environment.setenv(name, "")

    said = str(refusal())

    assert "SAMPLE_ENCRYPTION_KEYS: expected at least one key" in said
    assert "SAMPLE_DATABASE_URL: expected sqlite:///FILE or postgresql://USER@HOST/DATABAS" in said
    assert "SAMPLE_ADMIN_KEY: String should have at least 24 characters" in said


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in {**GOOD, "SAMPLE_PORT": "8200"}.items()]
    (tmp_path / ".env").write_text("\n".join(lines))

    assert config.load(SampleSettings).port == 8200


def test_environment_overrides_the_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SAMPLE_PORT=8200\nSAMPLE_LOG_LEVEL=ERROR\nOTHER=1\n")
    environment.setenv("SAMPLE_PORT", "8300")

    loaded = config.load(SampleSettings)

    assert (loaded.port, loaded.log_level) == (8300, "ERROR")


def test_repr_does_not_show_secrets(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SAMPLE_DATABASE_URL", "postgresql://u:hunter2@there/db")

    shown = repr(config.load(SampleSettings))

    assert KEY not in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(KEY, id="standard base64"),
        pytest.param(OTHER_KEY, id="URL-safe base64"),
        pytest.param(f"{KEY},{OTHER_KEY}", id="both"),
        pytest.param(f" {KEY} , {OTHER_KEY} ,", id="spaces and a comma behind"),
    ],
)
def test_encryption_keys_in_both_base64_alphabets(
    environment: pytest.MonkeyPatch, keys: str
) -> None:
    environment.setenv("SAMPLE_ENCRYPTION_KEYS", keys)

    vault = Vault(config.load(SampleSettings).encryption_keys)

    assert vault.decrypt(vault.encrypt("secret")) == "secret"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param("", "expected at least one key", id="nothing"),
        pytest.param(" , ", "expected at least one key", id="a comma"),
        pytest.param(
            base64.b64encode(b"k" * 31).decode(), "expected 32 random bytes", id="31 bytes"
        ),
        pytest.param(
            base64.b64encode(b"k" * 33).decode(), "expected 32 random bytes", id="33 bytes"
        ),
        pytest.param(KEY.rstrip("="), "expected 32 random bytes", id="no padding"),
        pytest.param("é" * 44, "expected 32 random bytes", id="not ASCII"),
        pytest.param("password", "expected 32 random bytes", id="a password"),
        pytest.param(f"{KEY},short", "as from `openssl rand -base64 32`", id="a bad second one"),
    ],
)
def test_invalid_encryption_key_is_refused(
    environment: pytest.MonkeyPatch, keys: str, message: str
) -> None:
    environment.setenv("SAMPLE_ENCRYPTION_KEYS", keys)

    said = str(refusal())

    assert said.startswith("SAMPLE_ENCRYPTION_KEYS: ")
    assert message in said


@pytest.mark.parametrize(
    ("url", "read"),
    [
        pytest.param("sqlite:///a.db", "sqlite:///a.db", id="a file here"),
        pytest.param("sqlite:////srv/a.db", "sqlite:////srv/a.db", id="a file elsewhere"),
        pytest.param("postgresql://u@h/d", "postgresql+psycopg://u@h/d", id="PostgreSQL"),
        pytest.param(
            "postgresql://u:p%40ss@h:5432/d?sslmode=require",
            "postgresql+psycopg://u:p%40ss@h:5432/d?sslmode=require",
            id="with everything",
        ),
        pytest.param(
            "postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d", id="its driver named"
        ),
    ],
)
def test_database_url_gets_the_driver(environment: pytest.MonkeyPatch, url: str, read: str) -> None:
    environment.setenv("SAMPLE_DATABASE_URL", url)

    assert config.load(SampleSettings).database_url.get_secret_value() == read


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("hunter2", id="no URL"),
        pytest.param("mysql://u:hunter2@h/d", id="another database"),
        pytest.param("postgresql+asyncpg://u:hunter2@h/d", id="another driver"),
        pytest.param("sqlite://", id="SQLite without a file"),
        pytest.param("sqlite:///", id="SQLite without a file's name"),
        pytest.param("sqlite:///:memory:", id="SQLite in memory"),
        pytest.param("postgresql://u:hunter2@h", id="no database"),
        pytest.param("postgresql://u:hunter2@h/", id="no database's name"),
        pytest.param("postgresql://u:hunter2@h:port/d", id="no port"),
    ],
)
def test_invalid_database_url_is_refused(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("SAMPLE_DATABASE_URL", url)

    assert str(refusal()) == (
        "SAMPLE_DATABASE_URL: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAMPLE_PORT", "0"),
        ("SAMPLE_PORT", "65536"),
        ("SAMPLE_DATABASE_TIMEOUT", "0"),
        ("SAMPLE_DATABASE_TIMEOUT", "-1"),
        ("SAMPLE_DATABASE_TIMEOUT", "nan"),
        ("SAMPLE_DATABASE_TIMEOUT", "inf"),
        ("SAMPLE_WEB_THREADS", "1.5"),
        ("SAMPLE_LOG_LEVEL", "info"),
        ("SAMPLE_LOG_FORMAT", "xml"),
    ],
)
def test_setting_out_of_bounds_is_refused(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)

    assert str(refusal()).startswith(f"{name}: Input should be ")


def test_settings_are_frozen() -> None:
    loaded = SampleSettings(encryption_keys=KEY, database_url="sqlite:///a.db", admin_key="k" * 24)

    with pytest.raises(ValueError, match="Instance is frozen"):
        loaded.port = 1


def test_validation_error_does_not_show_a_value() -> None:
    with pytest.raises(ValidationError) as caught:
        SampleSettings(encryption_keys=KEY, database_url="sqlite:///a.db", admin_key="hunter2")

    assert "admin_key" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_variable_has_the_prefix() -> None:
    assert config.variable(SampleSettings, "database_url") == "SAMPLE_DATABASE_URL"
