"""Where the links of eAssessment's pages lead."""

import pytest
from flask import Flask, url_for

from foundation.errors import Advice
from notifier.pages.navigation import SITE, link_for


@pytest.mark.parametrize(
    ("action", "args", "path"),
    [
        pytest.param("courses list", (), "/courses", id="courses"),
        pytest.param("endpoints add", ("URL",), "/endpoints/new", id="add an endpoint"),
        pytest.param("endpoints enable", ("7",), "/endpoints/7", id="an endpoint"),
        pytest.param("endpoints list", (), "/endpoints", id="endpoints"),
        pytest.param(
            "deliveries replay",
            ("--status", "dead"),
            "/deliveries/replay?status=dead",
            id="replay by status",
        ),
        pytest.param("deliveries replay", ("12",), "/deliveries", id="deliveries"),
    ],
)
def test_advice_links_to_its_page(
    app: Flask, action: str, args: tuple[str, ...], path: str
) -> None:
    with app.test_request_context():
        link = link_for(Advice("Do it.", action, args))

    assert link is not None
    assert link.url == path


def test_advice_without_page_has_no_link(app: Flask) -> None:
    with app.test_request_context():
        assert link_for(Advice("Do it.", "db upgrade")) is None


def test_navigation_builds_urls(app: Flask) -> None:
    with app.test_request_context():
        urls = [url_for(item.endpoint) for item in SITE.navigation]

    assert urls == ["/", "/courses", "/deliveries", "/endpoints", "/audit"]
