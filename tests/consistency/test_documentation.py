"""The documentation: what it names exists."""

import re
from pathlib import Path

import pytest

from contract.problems import ProblemType
from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER_SCHEMA
from notifier.models import DeliveryStatus
from notifier.webhooks.retry_policy import SCHEDULE
from receiver.models import SCHEMA as RECEIVER_SCHEMA
from tests.browser import pictures
from tests.consistency.commands import find_commands, resolve

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
}
CHANGELOG = "CHANGELOG.md"  # names commands that are gone
WIRE_FORMAT = PAGES["docs/wire-format.md"]
PICTURES = ROOT / "docs" / "pictures"
COMMANDS = sorted(
    {line for page, text in PAGES.items() if page != CHANGELOG for line in find_commands(text)}
)
LINKS = sorted(
    {
        (page, target)
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if not target.startswith("http")
    }
)


def anchors(markdown: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(markdown: str, title: str) -> str:
    """Return the text between a heading and the next one."""
    _, _, text = markdown.partition(f"# {title}\n")
    return text.partition("\n#")[0]


@pytest.mark.parametrize("line", COMMANDS)
def test_documented_command_exists_with_its_options(line: str) -> None:
    command, words = resolve(line)

    options = {
        option for param in command.params for option in (*param.opts, *param.secondary_opts)
    }
    named = {word.split("=")[0] for word in words if word.startswith("--")}
    assert named <= options | {"--help"}


@pytest.mark.parametrize(("page", "target"), LINKS, ids="->".join)
def test_link_leads_somewhere(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page

    assert file.exists()
    if anchor:
        assert anchor in anchors(file.read_text(encoding="utf-8"))


def test_documented_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))

    named = {name for text in PAGES.values() for name in re.findall(r"`make ([\w-]+)", text)}

    assert {"demo", "test"} <= named <= targets


def test_pictures_are_those_of_the_pages() -> None:
    shown = {
        Path(target).stem
        for text in PAGES.values()
        for words, target in re.findall(r"!\[(.+?)\]\((.+?)\)", text)
        if "pictures/" in target and words
    }

    assert {path.stem for path in PICTURES.iterdir()} == shown == set(pictures.PICTURES)


def test_every_alert_has_a_runbook_entry() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    table = section(PAGES["docs/operations.md"], "Alerts")

    assert set(re.findall(r"`([A-Z]\w+)`", table)) == set(re.findall(r"- alert: (\w+)", rules))


def test_documented_waits_are_those_of_the_retry_schedule() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    sentence = re.search(r"Retried after (.*?), each wait", WIRE_FORMAT)

    assert sentence
    waits = [int(wait) * units[unit] for wait, unit in re.findall(r"(\d+) (s|min|h)", sentence[1])]
    assert waits == [int(wait.total_seconds()) for wait in SCHEDULE]


def test_documented_problem_types_exist() -> None:
    named = set(re.findall(r"\b[45]\d\d `([a-z-]+)`", section(WIRE_FORMAT, "Refusals")))

    assert named
    assert named <= {kind.value for kind in ProblemType}


def test_every_delivery_status_is_documented() -> None:
    rows = section(PAGES["docs/user-guide.md"], "Deliveries")

    assert [status for status in DeliveryStatus if f"| `{status}` |" not in rows] == []


@pytest.mark.parametrize("schema", [NOTIFIER_SCHEMA, RECEIVER_SCHEMA], ids=lambda one: one.service)
def test_retention_of_every_table_is_documented(schema: Schema) -> None:
    rows = section(PAGES["docs/operations.md"], "What is kept where, and for how long")

    assert {name for name in schema.metadata.tables if f"`{name}`" not in rows} == set()
