"""The settings that both services have."""

import base64
import os
from datetime import UTC, datetime
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
GOOD = {
    "SAMPLE_ENCRYPTION_KEYS": KEY,
    "SAMPLE_DATABASE_URL": "sqlite:///sample.db",
    "SAMPLE_ADMIN_KEY": "k" * 24,
}
INVALID_KEY = "expected 32 random bytes in base64, as from `openssl rand -base64 32`"
INVALID_URL = "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
INVALID_BUNDLE = "expected a PEM file of certificates, but"


def encoded(length: int) -> str:
    return base64.b64encode(b"k" * length).decode()


class SampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    port: Annotated[int, Field(ge=1, le=65535)] = 8100
    admin_key: Annotated[str, Field(min_length=24)]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with the required settings only, in an empty folder."""
    for name in [name for name in os.environ if name.upper().startswith("SAMPLE_")]:
        monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def refusal() -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        config.load(SampleSettings)
    return caught.value


def test_other_settings_have_defaults(environment: pytest.MonkeyPatch) -> None:
    loaded = config.load(SampleSettings)

    assert (loaded.host, loaded.port, loaded.web_threads) == ("127.0.0.1", 8100, 8)
    assert (loaded.log_level, loaded.log_format) == ("INFO", "auto")
    assert loaded.database_url.get_secret_value() == "sqlite:///sample.db"
    with pytest.raises(ValueError, match="Instance is frozen"):
        loaded.port = 1


@pytest.mark.parametrize(
    ("days", "before"),
    [
        pytest.param("", None, id="empty"),
        pytest.param("30", datetime(2026, 10, 23, 9, tzinfo=UTC), id="days"),
    ],
)
def test_grades_are_kept_unless_days_are_set(
    environment: pytest.MonkeyPatch, days: str, before: datetime | None
) -> None:
    environment.setenv("SAMPLE_FORGET_GRADES_AFTER_DAYS", days)

    loaded = config.load(SampleSettings)

    assert loaded.forgets_grades_before(datetime(2026, 11, 22, 9, tzinfo=UTC)) == before


def test_all_missing_settings_are_named(environment: pytest.MonkeyPatch) -> None:
    for name in GOOD:
        environment.delenv(name)

    refused = refusal()

    assert str(refused) == (
        "SAMPLE_ENCRYPTION_KEYS: is missing; SAMPLE_DATABASE_URL: is missing; "
        "SAMPLE_ADMIN_KEY: is missing"
    )
    assert ".env.example explains each one" in refused.advice.text


def test_all_invalid_settings_are_named_without_a_value(environment: pytest.MonkeyPatch) -> None:
    invalid = {
        "SAMPLE_ENCRYPTION_KEYS": "hunter2",
        "SAMPLE_DATABASE_URL": "mysql://hunter2@there/db",
        "SAMPLE_ADMIN_KEY": "hunter2",
        "SAMPLE_PORT": "hunter2",
        "SAMPLE_DATABASE_TIMEOUT": "inf",
        "SAMPLE_WEB_THREADS": "0",
        "SAMPLE_FORGET_GRADES_AFTER_DAYS": "0",
        "SAMPLE_METRICS_TOKEN": "hunter2",
        "SAMPLE_LOG_LEVEL": "info",
        "SAMPLE_LOG_FORMAT": "xml",
    }
    for name, value in invalid.items():
        environment.setenv(name, value)

    refused = refusal()

    assert {fault.split(":")[0] for fault in str(refused).split("; ")} == set(invalid)
    assert "hunter2" not in f"{refused!s} {refused!r} {refused.advice} {refused.facts}"
    assert refused.__suppress_context__


def test_environment_overrides_the_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SAMPLE_PORT=8200\nSAMPLE_LOG_LEVEL=ERROR\nOTHER=1\n")
    environment.setenv("SAMPLE_PORT", "8300")

    loaded = config.load(SampleSettings)

    assert (loaded.port, loaded.log_level) == (8300, "ERROR")


def test_file_must_be_utf_8(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SAMPLE_ADMIN_KEY=\xff\n")

    assert str(refusal()) == "the file .env is not UTF-8"


def test_secrets_are_shown_neither_in_repr_nor_in_errors(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SAMPLE_DATABASE_URL", "postgresql://u:hunter2@there/db")
    shown = repr(config.load(SampleSettings))

    with pytest.raises(ValidationError, match="admin_key") as caught:
        SampleSettings(admin_key="hunter2")

    assert KEY not in shown
    assert "hunter2" not in f"{shown} {caught.value}"


@pytest.mark.parametrize("keys", [KEY, OTHER_KEY, f" {KEY} , {OTHER_KEY} ,"])
def test_encryption_keys_have_either_base64_alphabet(
    environment: pytest.MonkeyPatch, keys: str
) -> None:
    environment.setenv("SAMPLE_ENCRYPTION_KEYS", keys)

    vault = Vault(config.load(SampleSettings).encryption_keys)

    assert vault.decrypt(vault.encrypt("secret")) == "secret"


@pytest.mark.parametrize(
    ("url", "read"),
    [
        pytest.param("sqlite:////srv/a.db", "sqlite:////srv/a.db", id="SQLite"),
        pytest.param(
            "postgresql://u:p%40ss@h:5432/d?sslmode=require",
            "postgresql+psycopg://u:p%40ss@h:5432/d?sslmode=require",
            id="PostgreSQL",
        ),
        pytest.param("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d", id="driver"),
    ],
)
def test_database_url_gets_the_driver(environment: pytest.MonkeyPatch, url: str, read: str) -> None:
    environment.setenv("SAMPLE_DATABASE_URL", url)

    assert config.load(SampleSettings).database_url.get_secret_value() == read


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("ENCRYPTION_KEYS", " , ", "expected at least one key", id="no key"),
        pytest.param("ENCRYPTION_KEYS", encoded(31), INVALID_KEY, id="31 bytes"),
        pytest.param("ENCRYPTION_KEYS", encoded(33), INVALID_KEY, id="33 bytes"),
        pytest.param("ENCRYPTION_KEYS", KEY.rstrip("="), INVALID_KEY, id="no padding"),
        pytest.param("ENCRYPTION_KEYS", "é" * 44, INVALID_KEY, id="not ASCII"),
        pytest.param("ENCRYPTION_KEYS", f"{KEY},short", INVALID_KEY, id="second key"),
        pytest.param("DATABASE_URL", "", INVALID_URL, id="empty URL"),
        pytest.param("DATABASE_URL", "hunter2", INVALID_URL, id="not a URL"),
        pytest.param("DATABASE_URL", "mysql://u:p@h/d", INVALID_URL, id="other database"),
        pytest.param("DATABASE_URL", "postgresql+asyncpg://h/d", INVALID_URL, id="other driver"),
        pytest.param("DATABASE_URL", "sqlite:///", INVALID_URL, id="SQLite without a file"),
        pytest.param("DATABASE_URL", "sqlite:///:memory:", INVALID_URL, id="SQLite in memory"),
        pytest.param("DATABASE_URL", "postgresql://u@h/", INVALID_URL, id="no database"),
        pytest.param("DATABASE_URL", "postgresql://u@h:port/d", INVALID_URL, id="invalid port"),
        pytest.param("CA_BUNDLE", "none.pem", f"{INVALID_BUNDLE} there is no", id="no file"),
        pytest.param("CA_BUNDLE", "other.pem", f"{INVALID_BUNDLE} it contains", id="no PEM"),
        pytest.param("CA_BUNDLE", "broken.pem", f"{INVALID_BUNDLE} it contains", id="broken PEM"),
        pytest.param("PATH_PREFIX", "admin", "expected a path such as", id="no path"),
        pytest.param("PATH_PREFIX", "//admin", "expected a path such as", id="empty segment"),
        pytest.param("PATH_PREFIX", "/a/../b", "expected a path such as", id="dots"),
        pytest.param("PATH_PREFIX", "/a?b", "expected a path such as", id="query"),
        pytest.param("PORT", "0", "must be at least 1", id="port 0"),
        pytest.param("PORT", "65536", "must be at most 65535", id="port 65536"),
        pytest.param("DATABASE_TIMEOUT", "0", "must be", id="no time"),
    ],
)
def test_invalid_value_is_refused(
    environment: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    Path("other.pem").write_text("not a certificate")
    Path("broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    environment.setenv(f"SAMPLE_{name}", value)

    assert str(refusal()).startswith(f"SAMPLE_{name}: {message}")


@pytest.mark.parametrize(
    ("written", "prefix"),
    [
        pytest.param("", "", id="none"),
        pytest.param("/", "", id="root"),
        pytest.param("/a-b/c.d", "/a-b/c.d", id="two segments"),
        pytest.param("/admin/", "/admin", id="slash at the end"),
    ],
)
def test_path_prefix_has_no_slash_at_its_end(
    environment: pytest.MonkeyPatch, written: str, prefix: str
) -> None:
    environment.setenv("SAMPLE_PATH_PREFIX", written)

    assert config.load(SampleSettings).path_prefix == prefix


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        pytest.param("SAMPLE_PROT", {"SAMPLE_PROT": "SAMPLE_PORT"}, id="misspelt"),
        pytest.param("SAMPLE_COLOUR", {"SAMPLE_COLOUR": None}, id="unlike any"),
        pytest.param("SAMPLE_", {"SAMPLE_": None}, id="prefix only"),
        pytest.param("sample_log_level", {}, id="small letters"),
        pytest.param("OTHER_PROT", {}, id="other prefix"),
        pytest.param("SAMPLE_SERVICE_HOST", {}, id="Kubernetes host"),
        pytest.param("SAMPLE_SERVICE_PORT_HTTP", {}, id="Kubernetes named port"),
        pytest.param("SAMPLE_PORT_8100_TCP", {}, id="Kubernetes port"),
        pytest.param("SAMPLE_PORT_8100_TCP_ADDR", {}, id="Kubernetes address"),
    ],
)
@pytest.mark.parametrize("is_in_file", [False, True], ids=["environment", "file"])
def test_unknown_variable_is_named_with_the_setting_that_is_meant(
    environment: pytest.MonkeyPatch, name: str, unknown: dict[str, str | None], is_in_file: bool
) -> None:
    if is_in_file:
        Path(".env").write_text(f"{name}=x\n")
    else:
        environment.setenv(name, "x")

    assert config.unknown_variables(SampleSettings) == unknown
