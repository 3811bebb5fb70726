"""Where a page of eAssessment does what an advice has a command for."""

from collections.abc import Sequence

from flask import url_for

from foundation.pages.ways import Way, to


def _endpoint(words: Sequence[str], button: str) -> tuple[str, str]:
    number = next((word for word in words if word.isdecimal()), None)
    if number is None:
        return f"the button “{button}” on its page", url_for("endpoints.listed")
    says = f"the button “{button}” of endpoint {number}"
    return says, url_for("endpoints.show", endpoint_id=int(number))


def _listed(words: Sequence[str]) -> tuple[str, str]:
    if list(words[:1]) == ["--status"]:
        status = words[1]
        return f"the {status} deliveries", url_for("deliveries.listed", status=status)
    return "the page Deliveries", url_for("deliveries.listed")


def _replayed(words: Sequence[str]) -> tuple[str, str]:
    if list(words[:1]) == ["--status"]:
        return "the page for that", url_for("deliveries.foresee", status=words[1])
    return "the button on its page", url_for("deliveries.listed")


WAYS = (
    to("courses list", "the page Courses", lambda: url_for("courses.listed")),
    to("courses regenerate-token", "the button on its page", lambda: url_for("courses.listed")),
    to("courses token-regenerated", "the button on its page", lambda: url_for("courses.listed")),
    to("endpoints add", "the form “Register an endpoint”", lambda: url_for("credentials.new")),
    to("endpoints list", "the page Endpoints", lambda: url_for("endpoints.listed")),
    Way("endpoints enable", lambda words, _: _endpoint(words, "Enable it")),
    Way("endpoints ping", lambda words, _: _endpoint(words, "Send a test")),
    Way("deliveries list", lambda words, _: _listed(words)),
    Way("deliveries replay", lambda words, _: _replayed(words)),
)
