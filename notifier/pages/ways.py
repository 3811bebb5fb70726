"""Where a page of eAssessment does what an advice has a command for."""

from collections.abc import Sequence

from flask import url_for

from foundation.pages.ways import Lead, Way, number, to


def _on_its_page(button: str) -> Lead:
    def lead(words: Sequence[str], about: str | None) -> tuple[str, str]:
        endpoint_id = number(words)
        if endpoint_id is None:
            return f"the button “{button}” on its page", about or url_for("endpoints.listed")
        says = f"the button “{button}” of endpoint {endpoint_id}"
        return says, url_for("endpoints.show", endpoint_id=endpoint_id)

    return lead


def _listed(words: Sequence[str]) -> tuple[str, str]:
    match words:
        case ["--status", status]:
            return f"the {status} deliveries", url_for("deliveries.listed", status=status)
        case _:
            return "the page Deliveries", url_for("deliveries.listed")


def _replayed(words: Sequence[str]) -> tuple[str, str]:
    match words:
        case ["--status", status]:
            return "the page for that", url_for("deliveries.preview_replay", status=status)
        case _:
            return "the button on its page", url_for("deliveries.listed")


WAYS = (
    to("courses list", "the page Courses", lambda: url_for("courses.listed")),
    to("courses regenerate-token", "the button on its page", lambda: url_for("courses.listed")),
    to("courses announce-token", "the button on its page", lambda: url_for("courses.listed")),
    to("endpoints add", "the form “Register an endpoint”", lambda: url_for("credentials.new")),
    to("endpoints list", "the page Endpoints", lambda: url_for("endpoints.listed")),
    Way("endpoints enable", _on_its_page("Enable it")),
    Way("endpoints rotate-secret", _on_its_page("Rotate its secret…")),
    Way("endpoints correct-url", _on_its_page("Correct its URL…")),
    Way("endpoints ping", _on_its_page("Send a test")),
    Way("deliveries list", lambda words, _: _listed(words)),
    Way("deliveries replay", lambda words, _: _replayed(words)),
)
