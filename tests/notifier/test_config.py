"""The settings of eAssessment: defaults, validation, secrecy."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from foundation.config import load
from foundation.errors import ConfigurationError
from foundation.http.ssrf import Guard
from notifier.config import Settings

GIVEN = {
    "admin_key": "planted-admin-key-0123456789abcdef",
    "encryption_keys": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
}


@pytest.fixture(autouse=True)
def empty_environment(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without `.env` and without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NOTIFIER_{name.upper()}", raising=False)


def make_settings(**overrides: Any) -> Settings:
    """Return settings with the required secrets."""
    return Settings(**{**GIVEN, **overrides})


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in Settings.model_fields])
def test_every_setting_says_what_it_is_for(name: str) -> None:
    description = Settings.model_fields[name].description

    assert description
    assert description.endswith(".")


def test_two_secrets_are_all_that_must_be_set() -> None:
    settings = make_settings()

    assert settings.database_url.get_secret_value() == "sqlite:///notifier.db"
    assert settings.source == "eassessment"
    assert {name for name, field in Settings.model_fields.items() if field.is_required()} == {
        "admin_key",
        "encryption_keys",
    }


def test_no_setting_shows_a_secret() -> None:
    settings = make_settings(database_url="postgresql://me:planted-password@host/x")

    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"

    for secret in (*GIVEN.values(), "planted-password"):
        assert secret not in shown


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("sqlite://", id="in memory"),
        pytest.param("sqlite:///:memory:", id="in memory, by name"),
        pytest.param("mysql://me@host/x", id="another database"),
        pytest.param("postgresql+asyncpg://me@host/x", id="another driver"),
        pytest.param("postgresql://me@host", id="no database named"),
        pytest.param("postgresql://me@host:planted/x", id="a port that is none"),
        pytest.param("", id="empty"),
    ],
)
def test_a_database_that_cannot_serve_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="expected sqlite:///FILE or postgresql") as caught:
        make_settings(database_url=url)

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("deadline", "lease"),
    [
        pytest.param(15.0, 19.9, id="too short"),
        pytest.param(60.0, 60.0, id="no longer than an attempt"),
    ],
)
def test_a_lease_outlasts_an_attempt(deadline: float, lease: float) -> None:
    with pytest.raises(
        ValidationError,
        match="NOTIFIER_LEASE must be longer than NOTIFIER_ATTEMPT_DEADLINE by 5 seconds or more",
    ):
        make_settings(attempt_deadline=deadline, lease=lease)


def test_a_lease_with_just_its_margin_is_taken() -> None:
    assert make_settings(attempt_deadline=15.0, lease=20.0).lease == 20.0


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("", id="empty"),
        pytest.param("a b", id="a space"),
        pytest.param("../x", id="dots and a slash"),
        pytest.param("-x", id="looks like an option"),
        pytest.param("x\n", id="a line break"),
        pytest.param("x" * 101, id="too long"),
    ],
)
def test_a_source_that_no_path_can_hold_is_refused(source: str) -> None:
    with pytest.raises(ValidationError, match="source"):
        make_settings(source=source)


def test_all_faults_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", "planted")
    monkeypatch.setenv("NOTIFIER_PORT", "planted")

    with pytest.raises(ConfigurationError) as caught:
        load(Settings)

    named = {fault.partition(":")[0] for fault in str(caught.value).split("; ")}
    assert named == {"NOTIFIER_ADMIN_KEY", "NOTIFIER_ENCRYPTION_KEYS", "NOTIFIER_PORT"}
    assert "planted" not in str(caught.value)


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = make_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


def test_nothing_special_is_allowed_unless_set() -> None:
    assert make_settings().guard == Guard()


def test_guard_is_made_of_the_settings() -> None:
    settings = make_settings(allowed_hosts="elms.campus, 10.0.0.0/8", allow_loopback=True)

    assert settings.guard == Guard(
        frozenset({"elms.campus"}), (ip_network("10.0.0.0/8"),), loopback=True
    )


def test_allowed_host_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_ALLOWED_HOSTS", "elms.campus,10.1.2.3/8")

    with pytest.raises(ConfigurationError) as refused:
        load(Settings)

    assert "NOTIFIER_ALLOWED_HOSTS: '10.1.2.3/8' is not a host name" in str(refused.value)


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("planted-key", id="11 characters"),
        pytest.param("planted secret", id="a space"),
        pytest.param("planted-sécret", id="not ASCII"),
        pytest.param("planted-secret\n", id="a line break"),
    ],
)
def test_an_ingest_secret_that_no_header_carries_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="expected at least 12 visible ASCII") as caught:
        make_settings(ingest_secret=secret)

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"ingest_secret": ""}], ids=["not set", "empty"])
def test_no_ingest_secret_is_none(given: dict[str, str]) -> None:
    assert make_settings(**given).ingest_secret.get_secret_value() == ""
