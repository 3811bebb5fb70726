"""The settings in `.env.example` and `docs/settings.md`: exactly those of the classes."""

import pytest

from foundation.config import ServiceSettings
from tests.consistency.settings_docs import (
    ENV_EXAMPLE,
    SERVICES,
    SETTINGS_PAGE,
    env_example,
    settings_page,
)


@pytest.mark.parametrize("settings", SERVICES.values(), ids=SERVICES.keys())
def test_every_setting_has_a_description(settings: type[ServiceSettings]) -> None:
    fields = settings.model_fields.items()

    assert [name for name, field in fields if not field.description] == []


def test_env_example_is_up_to_date() -> None:
    assert ENV_EXAMPLE.read_text(encoding="utf-8") == env_example()


def test_settings_page_is_up_to_date() -> None:
    page = SETTINGS_PAGE.read_text(encoding="utf-8")

    assert page == settings_page(page)
