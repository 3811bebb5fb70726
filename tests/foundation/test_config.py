"""Settings from the environment or .env: read once, refused all at once, never shown."""

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


class GroundSettings(ServiceSettings):
    """The settings of the tests' service."""

    model_config = SettingsConfigDict(env_prefix="GROUND_")

    port: Annotated[int, Field(ge=1, le=65535)] = 8100
    admin_key: Annotated[str, Field(min_length=24)]


GOOD = {
    "GROUND_ENCRYPTION_KEYS": KEY,
    "GROUND_DATABASE_URL": "sqlite:///ground.db",
    "GROUND_ADMIN_KEY": "k" * 24,
}


@pytest.fixture(autouse=True)
def empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away whatever this machine is set up with: no variables of ours, no .env."""
    for name in [name for name in os.environ if name.upper().startswith("GROUND_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The least that the service needs, in the environment."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal() -> ConfigurationError:
    """Return what loading the settings is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        config.load(GroundSettings)
    return caught.value


def test_the_least_that_is_needed_is_enough(environment: pytest.MonkeyPatch) -> None:
    loaded = config.load(GroundSettings)

    assert loaded.port == 8100
    assert loaded.host == "127.0.0.1"
    assert loaded.database_timeout == 5.0
    assert loaded.web_threads == 8
    assert (loaded.log_level, loaded.log_format) == ("INFO", "auto")
    assert loaded.database_url.get_secret_value() == "sqlite:///ground.db"


def test_everything_missing_is_named_at_once() -> None:
    refused = refusal()

    assert str(refused) == (
        "GROUND_ENCRYPTION_KEYS: is missing; GROUND_DATABASE_URL: is missing; "
        "GROUND_ADMIN_KEY: is missing"
    )
    assert ".env.example explains each one" in refused.advice.text


def test_every_fault_is_named_at_once_and_no_value_shown(
    environment: pytest.MonkeyPatch,
) -> None:
    planted = {
        "GROUND_ENCRYPTION_KEYS": "hunter2",
        "GROUND_DATABASE_URL": "mysql://hunter2@there/db",
        "GROUND_ADMIN_KEY": "hunter2",
        "GROUND_PORT": "hunter2",
        "GROUND_DATABASE_TIMEOUT": "hunter2",
        "GROUND_WEB_THREADS": "0",
        "GROUND_LOG_LEVEL": "hunter2",
    }
    for name, value in planted.items():
        environment.setenv(name, value)

    refused = refusal()

    assert {fault.split(":")[0] for fault in str(refused).split("; ")} == set(planted)
    assert "hunter2" not in f"{refused!s} {refused!r} {refused.advice} {refused.facts}"
    assert refused.__suppress_context__


def test_an_empty_variable_is_not_a_missing_one(environment: pytest.MonkeyPatch) -> None:
    for name in ("GROUND_ENCRYPTION_KEYS", "GROUND_DATABASE_URL", "GROUND_ADMIN_KEY"):
        environment.setenv(name, "")

    said = str(refusal())

    assert "GROUND_ENCRYPTION_KEYS: expected at least one key" in said
    assert "GROUND_DATABASE_URL: expected sqlite:///FILE or postgresql://USER@HOST/DATABAS" in said
    assert "GROUND_ADMIN_KEY: String should have at least 24 characters" in said


def test_settings_stand_in_a_file_too(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in {**GOOD, "GROUND_PORT": "8200"}.items()]
    (tmp_path / ".env").write_text("\n".join(lines))

    assert config.load(GroundSettings).port == 8200


def test_the_environment_goes_before_the_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("GROUND_PORT=8200\nGROUND_LOG_LEVEL=ERROR\nOTHER=1\n")
    environment.setenv("GROUND_PORT", "8300")

    loaded = config.load(GroundSettings)

    assert (loaded.port, loaded.log_level) == (8300, "ERROR")


def test_settings_do_not_show_their_secrets(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GROUND_DATABASE_URL", "postgresql://u:hunter2@there/db")

    shown = repr(config.load(GroundSettings))

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
def test_encryption_keys_are_read_in_either_base64(
    environment: pytest.MonkeyPatch, keys: str
) -> None:
    environment.setenv("GROUND_ENCRYPTION_KEYS", keys)

    vault = Vault(config.load(GroundSettings).encryption_keys)

    assert vault.decrypt(vault.encrypt("secret")) == "secret"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param("", "expected at least one key", id="nothing"),
        pytest.param(" , ", "expected at least one key", id="a comma"),
        pytest.param(
            base64.b64encode(b"k" * 31).decode(), "expected 32 random bytes", id="a byte too few"
        ),
        pytest.param(
            base64.b64encode(b"k" * 33).decode(), "expected 32 random bytes", id="a byte too many"
        ),
        pytest.param(KEY.rstrip("="), "expected 32 random bytes", id="without its padding"),
        pytest.param("é" * 44, "expected 32 random bytes", id="not ASCII"),
        pytest.param("password", "expected 32 random bytes", id="a password"),
        pytest.param(f"{KEY},short", "as from `openssl rand -base64 32`", id="a bad second one"),
    ],
)
def test_what_is_no_key_is_refused(
    environment: pytest.MonkeyPatch, keys: str, message: str
) -> None:
    environment.setenv("GROUND_ENCRYPTION_KEYS", keys)

    said = str(refusal())

    assert said.startswith("GROUND_ENCRYPTION_KEYS: ")
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
def test_a_database_url_names_our_driver(
    environment: pytest.MonkeyPatch, url: str, read: str
) -> None:
    environment.setenv("GROUND_DATABASE_URL", url)

    assert config.load(GroundSettings).database_url.get_secret_value() == read


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
def test_what_is_no_database_of_ours_is_refused(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("GROUND_DATABASE_URL", url)

    assert str(refusal()) == (
        "GROUND_DATABASE_URL: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GROUND_PORT", "0"),
        ("GROUND_PORT", "65536"),
        ("GROUND_DATABASE_TIMEOUT", "0"),
        ("GROUND_DATABASE_TIMEOUT", "-1"),
        ("GROUND_DATABASE_TIMEOUT", "nan"),
        ("GROUND_DATABASE_TIMEOUT", "inf"),
        ("GROUND_WEB_THREADS", "1.5"),
        ("GROUND_LOG_LEVEL", "info"),
        ("GROUND_LOG_FORMAT", "xml"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)

    assert str(refusal()).startswith(f"{name}: Input should be ")


def test_settings_do_not_change() -> None:
    loaded = GroundSettings(encryption_keys=KEY, database_url="sqlite:///a.db", admin_key="k" * 24)

    with pytest.raises(ValueError, match="Instance is frozen"):
        loaded.port = 1


def test_not_even_the_librarys_own_error_shows_a_value() -> None:
    with pytest.raises(ValidationError) as caught:
        GroundSettings(encryption_keys=KEY, database_url="sqlite:///a.db", admin_key="hunter2")

    assert "admin_key" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_setting_has_one_variable() -> None:
    assert config.variable(GroundSettings, "database_url") == "GROUND_DATABASE_URL"
