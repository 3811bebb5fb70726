"""The settings of ELMS: defaults, and errors that name the variable."""

import os
from pathlib import Path

import pytest

from foundation import config
from foundation.errors import ConfigurationError
from receiver.config import Settings

ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
TOKEN = "0123456789abcdef0123456789abcdef"
BOTH = "RECEIVER_GRADEBOOK_URL and RECEIVER_GRADEBOOK_TOKEN belong together: set both, or neither"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the variables and `.env` of the machine."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("RECEIVER_"):
            monkeypatch.delenv(name)


def test_encryption_key_is_the_only_required_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", ENCRYPTION_KEY)

    loaded = config.load(Settings)

    assert loaded.database_url.get_secret_value() == "sqlite:///receiver.db"
    assert loaded.port == 8002


def test_all_errors_are_reported_without_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each variable that is missing or wrong is named; what stood in it is not (F23)."""
    monkeypatch.setenv("RECEIVER_PORT", "planted")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", "mysql://ada:planted@host/db")

    with pytest.raises(ConfigurationError) as refused:
        config.load(Settings)

    said = str(refused.value)
    assert "RECEIVER_ENCRYPTION_KEYS: is missing" in said
    assert "RECEIVER_PORT: " in said
    assert "RECEIVER_DATABASE_URL: " in said
    assert "planted" not in said


def test_lease_must_outlast_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    monkeypatch.setenv("RECEIVER_SYNC_LEASE", "60")

    with pytest.raises(
        ConfigurationError,
        match="RECEIVER_SYNC_LEASE must be at least 30 seconds longer",
    ):
        config.load(Settings)


def set_gradebook(monkeypatch: pytest.MonkeyPatch, url: str | None, token: str | None) -> None:
    """Set the gradebook settings that are not None."""
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    for name, value in (("URL", url), ("TOKEN", token)):
        if value is not None:
            monkeypatch.setenv(f"RECEIVER_GRADEBOOK_{name}", value)


def test_elms_can_be_a_moodle(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gradebook(monkeypatch, "https://elms.example.ac.uk/moodle/", TOKEN)

    loaded = config.load(Settings)

    assert loaded.gradebook_url == "https://elms.example.ac.uk/moodle"
    assert loaded.gradebook_token.get_secret_value() == TOKEN
    assert TOKEN not in repr(loaded)


def test_empty_gradebook_url_means_own_gradebook(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gradebook(monkeypatch, "", "")

    assert config.load(Settings).gradebook_url == ""


@pytest.mark.parametrize(
    ("url", "token", "said"),
    [
        pytest.param(
            "https://elms.example.ac.uk",
            None,
            BOTH,
            id="no token",
        ),
        pytest.param(
            None,
            TOKEN,
            BOTH,
            id="no URL",
        ),
        pytest.param(
            "https://ada:planted@elms.example.ac.uk",
            TOKEN,
            "RECEIVER_GRADEBOOK_URL: the URL has more than scheme, host, port and path",
            id="user info",
        ),
        pytest.param(
            "elms.example.ac.uk",
            TOKEN,
            "RECEIVER_GRADEBOOK_URL: the URL is not an http or https URL with a host",
            id="no scheme",
        ),
        pytest.param(
            "https://elms.example.ac.uk",
            "planted token",
            "RECEIVER_GRADEBOOK_TOKEN: a Moodle token is 32 letters and digits; this is not one",
            id="no token of a Moodle",
        ),
    ],
)
def test_invalid_gradebook_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str | None, token: str | None, said: str
) -> None:
    """What is wrong is named with its variable, without what stands in it (F23)."""
    set_gradebook(monkeypatch, url, token)

    with pytest.raises(ConfigurationError) as refused:
        config.load(Settings)

    assert str(refused.value) == said


def test_every_setting_is_explained() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]

    assert silent == []
