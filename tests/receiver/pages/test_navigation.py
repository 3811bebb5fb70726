"""The links of ELMS's pages."""

import pytest
from flask import Flask, url_for

from foundation.errors import Advice
from receiver.pages.navigation import SITE, link_for

ENTRY = "/entries/1"


@pytest.mark.parametrize(
    ("action", "args", "about", "path"),
    [
        pytest.param("registry set-token", ("M",), ENTRY, f"{ENTRY}#enter-token", id="token"),
        pytest.param("registry set-activity", ("M",), ENTRY, f"{ENTRY}#activity", id="activity"),
        pytest.param("registry set-token", ("M",), None, "/?q=M", id="token of a course"),
        pytest.param("registry set-token", ("COURSE_ID",), None, "/", id="token of any course"),
        pytest.param("registry list", (), None, "/", id="registry"),
        pytest.param("registry add", (), None, "/entries/new", id="add a course"),
        pytest.param("sources list", (), None, "/sources", id="sources"),
        pytest.param("sources add-secret", ("one",), None, "/sources/one", id="a source"),
        pytest.param(
            "registry remove", ("--all", "--source", "one"), None, "/?source=one", id="its courses"
        ),
        pytest.param("runs list", (), None, "/runs", id="runs"),
        pytest.param("runs show", ("3",), None, "/runs/3", id="a run"),
        pytest.param("db upgrade", (), None, None, id="no page"),
    ],
)
def test_advice_links_to_its_page(
    app: Flask, action: str, args: tuple[str, ...], about: str | None, path: str | None
) -> None:
    with app.test_request_context():
        link = link_for(Advice("Do it.", action, args), about)

    assert (link and link.url) == path


def test_navigation_builds_urls(app: Flask) -> None:
    with app.test_request_context():
        urls = [url_for(item.endpoint) for item in SITE.navigation]

    assert urls == ["/", "/runs", "/inbox", "/sources", "/audit"]
