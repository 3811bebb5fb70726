"""ELMS's settings: defaults that work, faults that are named."""

import os
from pathlib import Path

import pytest

from foundation import settings
from foundation.errors import ConfigurationError
from receiver.config import Settings

ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no `.env` of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("RECEIVER_"):
            monkeypatch.delenv(name)


def test_secrets_are_all_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the encryption keys alone ELMS runs on SQLite."""
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", ENCRYPTION_KEY)

    loaded = settings.load(Settings)

    assert loaded.database_url.get_secret_value() == "sqlite:///receiver.db"
    assert loaded.port == 8002


def test_faults_are_named_all_at_once_and_no_value_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each variable that is missing or wrong is named; what stood in it is not (F23)."""
    monkeypatch.setenv("RECEIVER_PORT", "planted")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", "mysql://ada:planted@host/db")

    with pytest.raises(ConfigurationError) as refused:
        settings.load(Settings)

    said = str(refused.value)
    assert "RECEIVER_ENCRYPTION_KEYS: is missing" in said
    assert "RECEIVER_PORT: " in said
    assert "RECEIVER_DATABASE_URL: " in said
    assert "planted" not in said


def test_the_lease_outlasts_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that could end while one request is under way is refused."""
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    monkeypatch.setenv("RECEIVER_SYNC_LEASE", "60")

    with pytest.raises(
        ConfigurationError,
        match="RECEIVER_SYNC_LEASE must be longer than RECEIVER_REQUEST_DEADLINE",
    ):
        settings.load(Settings)


def test_every_setting_is_explained() -> None:
    """Each field has a sentence, for `.env.example` is made of them."""
    silent = [name for name, field in Settings.model_fields.items() if not field.description]

    assert silent == []
