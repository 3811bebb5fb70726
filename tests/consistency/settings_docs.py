"""The documentation of the settings, generated from their classes.

`python -m tests.consistency.settings_docs` rewrites `.env.example` and the tables of
`docs/settings.md`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from foundation.config import ServiceSettings, variable
from notifier.config import Settings as NotifierSettings
from receiver.config import Settings as ReceiverSettings

ROOT = Path(__file__).parents[2]
ENV_EXAMPLE = ROOT / ".env.example"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
SERVICES: dict[str, type[ServiceSettings]] = {
    "eAssessment (`notifier`)": NotifierSettings,
    "ELMS (`receiver`)": ReceiverSettings,
}
_GENERATED = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
_INTRODUCTION = """\
# All settings with their defaults. `notifier init` and `receiver init` write those that have no
# default to .env. Keep that file readable by its owner only (chmod 600 .env)."""


def env_example() -> str:
    lines = [_INTRODUCTION]
    for title, settings in SERVICES.items():
        lines += ["", f"# --- {title} ---"]
        for name, default, description in _settings_of(settings):
            assignment = f"{name}={default or ''}"
            lines += ["", f"# {description}", assignment if default is None else f"# {assignment}"]
    return "\n".join(lines) + "\n"


def settings_page(page: str) -> str:
    """Return the page with the tables between its two markers replaced."""
    replaced, count = _GENERATED.subn(lambda _: _tables(), page)
    if count != 1:
        raise ValueError("expected one pair of `<!-- settings -->` and `<!-- /settings -->`")
    return replaced


def _tables() -> str:
    lines: list[str] = []
    for title, settings in SERVICES.items():
        lines += ["", f"## {title}", "", "| variable | default | meaning |", "| --- | --- | --- |"]
        for name, default, description in _settings_of(settings):
            shown = "required" if default is None else f"`{default}`" if default else "empty"
            lines.append(f"| `{name}` | {shown} | {description} |")
    return "\n".join(lines) + "\n\n"


def _settings_of(settings: type[ServiceSettings]) -> Iterator[tuple[str, str | None, str]]:
    """Yield name, default and description of each setting; the default is None if required."""
    for name, field in settings.model_fields.items():
        yield variable(settings, name), _default_of(field), str(field.description)


def _default_of(field: FieldInfo) -> str | None:
    if field.default is PydanticUndefined:
        return None
    if field.default is None:
        return ""
    if isinstance(field.default, SecretStr):
        return field.default.get_secret_value()
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def main() -> None:
    ENV_EXAMPLE.write_text(env_example(), encoding="utf-8")
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    SETTINGS_PAGE.write_text(settings_page(page), encoding="utf-8")


if __name__ == "__main__":
    main()
