"""The settings of ELMS: defaults, and errors that name the variable and show no value."""

from pathlib import Path

import pytest

from foundation import config
from foundation.errors import ConfigurationError
from receiver.config import Settings
from tests.receiver.conftest import ENCRYPTION_KEY

URL = "https://elms.example.ac.uk"
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def no_settings_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a directory without `.env`."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The required settings, in the environment."""
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    return monkeypatch


def test_encryption_key_is_the_only_required_setting(environment: pytest.MonkeyPatch) -> None:
    loaded = config.load(Settings)

    assert loaded.database_url.get_secret_value() == "sqlite:///receiver.db"
    assert loaded.port == 8002


def test_all_errors_are_reported_without_values(monkeypatch: pytest.MonkeyPatch) -> None:  # F23
    monkeypatch.setenv("RECEIVER_PORT", "planted")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", "mysql://ada:planted@host/db")

    with pytest.raises(ConfigurationError) as refused:
        config.load(Settings)

    said = str(refused.value)
    assert "RECEIVER_ENCRYPTION_KEYS: is missing" in said
    assert "RECEIVER_PORT: " in said
    assert "RECEIVER_DATABASE_URL: " in said
    assert "planted" not in said


def test_gradebook_can_be_a_moodle(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RECEIVER_GRADEBOOK_URL", f"{URL}/moodle/")
    environment.setenv("RECEIVER_GRADEBOOK_TOKEN", TOKEN)

    loaded = config.load(Settings)

    assert loaded.elms_is_moodle
    assert loaded.gradebook_url == f"{URL}/moodle"
    assert loaded.gradebook_token.get_secret_value() == TOKEN
    assert TOKEN not in repr(loaded)


def test_empty_gradebook_url_means_own_gradebook(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RECEIVER_GRADEBOOK_URL", "")
    environment.setenv("RECEIVER_GRADEBOOK_TOKEN", "")

    assert not config.load(Settings).elms_is_moodle


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"GRADEBOOK_URL": URL},
            "RECEIVER_GRADEBOOK_URL and RECEIVER_GRADEBOOK_TOKEN belong together: "
            "set both, or neither",
            id="half a gradebook",
        ),
        pytest.param(
            {"GRADEBOOK_URL": "https://ada:planted@elms.example.ac.uk", "GRADEBOOK_TOKEN": TOKEN},
            "RECEIVER_GRADEBOOK_URL: the URL has more than scheme, host, port and path",
            id="gradebook URL with user info",
        ),
        pytest.param(
            {"GRADEBOOK_URL": URL, "GRADEBOOK_TOKEN": "planted token"},
            "RECEIVER_GRADEBOOK_TOKEN: a Moodle token is 32 letters and digits; this is not one",
            id="gradebook token",
        ),
        pytest.param(
            {"SYNC_LEASE": "60"},
            "RECEIVER_SYNC_LEASE must be at least 30 seconds longer",
            id="lease shorter than a request",
        ),
    ],
)
def test_invalid_setting_is_refused_without_its_value(  # F23
    environment: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    for name, value in settings.items():
        environment.setenv(f"RECEIVER_{name}", value)

    with pytest.raises(ConfigurationError) as refused:
        config.load(Settings)

    assert str(refused.value).startswith(message)
    assert "planted" not in str(refused.value)
