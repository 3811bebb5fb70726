"""The settings are told alike by the classes, by .env.example and by the README."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from foundation.config import ServiceSettings, variable
from notifier.config import Settings as NotifierSettings
from receiver.config import Settings as ReceiverSettings

ROOT = Path(__file__).parents[2]
SERVICES = {"eAssessment: `notifier`": NotifierSettings, "ELMS: `receiver`": ReceiverSettings}


def default_of(field: FieldInfo) -> str | None:
    """Return a field's default as one would type it, or None if there is none."""
    if field.default is PydanticUndefined:
        return None
    if isinstance(field.default, SecretStr):
        return field.default.get_secret_value()
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def example() -> str:
    """Return what .env.example has to say."""
    lines = ["# Every setting, with its default where it has one. Copy this file to .env."]
    for title, settings in SERVICES.items():
        lines += ["", f"# --- {title} ---"]
        for name, field in settings.model_fields.items():
            default = default_of(field)
            lines += ["", f"# {field.description}"]
            assignment = f"{variable(settings, name)}={default or ''}"
            lines.append(assignment if default is None else f"# {assignment}")
    return "\n".join(lines) + "\n"


def rows() -> str:
    """Return what the README's table of settings has to say."""
    return "".join(
        f"| `{variable(settings, name)}` | {unless_set(field)} | {field.description} |\n"
        for settings in SERVICES.values()
        for name, field in settings.model_fields.items()
    )


def unless_set(field: FieldInfo) -> str:
    """Return what the table says that a setting is unless it is set."""
    default = default_of(field)
    if default is None:
        return "required"
    return f"`{default}`" if default else "nothing"


@pytest.mark.parametrize("settings", SERVICES.values(), ids=SERVICES.keys())
def test_every_setting_has_a_sentence(settings: type[ServiceSettings]) -> None:
    silent = [name for name, field in settings.model_fields.items() if not field.description]

    assert silent == []


def test_env_example_lists_exactly_the_settings() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == example()


def test_readme_lists_exactly_the_settings() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- settings -->\n(.*?)<!-- /settings -->", text, re.DOTALL)

    assert found
    assert found[1] == rows()
