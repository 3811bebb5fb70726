"""The settings of eAssessment: defaults, validation."""

from ipaddress import ip_network
from pathlib import Path
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


def make_settings(**overrides: Any) -> Settings:
    """Return settings with the required secrets."""
    return Settings(_env_file=None, **{**GIVEN, **overrides})


def test_two_secrets_are_all_that_must_be_set() -> None:
    settings = make_settings()

    assert settings.database_url.get_secret_value() == "sqlite:///notifier.db"
    assert settings.source == "eassessment"
    assert settings.ingest_secret.get_secret_value() == ""
    assert settings.guard == Guard()
    assert {name for name, field in Settings.model_fields.items() if field.is_required()} == {
        *GIVEN
    }


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        pytest.param("admin_key", "planted-short", "expected 32 or more visible", id="short key"),
        pytest.param("admin_key", "planted key " * 3, "expected 32 or more visible", id="spaces"),
        pytest.param("database_url", "mysql://planted@host/x", "expected sqlite", id="database"),
        pytest.param("source", "planted site", "source", id="source with a space"),
        pytest.param("source", "../planted", "source", id="source with a slash"),
        pytest.param("ingest_secret", "planted-key", "expected at least 12", id="ingest secret"),
        pytest.param("lease", 26.6, "NOTIFIER_LEASE must be at least 27 with", id="lease"),
    ],
)
def test_invalid_setting_is_refused(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        make_settings(attempt_deadline=15.0, **{setting: value})

    assert "planted" not in str(caught.value)


def test_lease_with_just_its_margin_is_accepted() -> None:
    assert make_settings(attempt_deadline=15.0, lease=27.0).lease == 27.0


def test_guard_is_made_of_the_settings() -> None:
    settings = make_settings(allowed_hosts="elms.campus, 10.0.0.0/8", allow_loopback=True)

    assert settings.guard == Guard(
        frozenset({"elms.campus"}), (ip_network("10.0.0.0/8"),), loopback=True
    )


def test_all_invalid_settings_are_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", "planted")
    monkeypatch.setenv("NOTIFIER_ALLOWED_HOSTS", "elms.campus,10.1.2.3/8")

    with pytest.raises(ConfigurationError) as caught:
        load(Settings)

    named = {fault.partition(":")[0] for fault in str(caught.value).split("; ")}
    assert named == {"NOTIFIER_ADMIN_KEY", "NOTIFIER_ENCRYPTION_KEYS", "NOTIFIER_ALLOWED_HOSTS"}
    assert "'10.1.2.3/8' is not a host name" in str(caught.value)
    assert "planted" not in str(caught.value)
