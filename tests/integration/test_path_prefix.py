"""Both services published under a path: no link, form, redirect or asset leaves it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import unquote, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foundation.db.session import Database
from foundation.services import Services
from tests.browser.university import lived
from tests.foundation.pages.conftest import KEY, PASSWORD, Service, each_service, service, token_in

PREFIX = "/webhooks-admin"
# How many pages of a view are opened.
_PAGES = 3
_URL = re.compile(r'\b(?:href|src|action|formaction|data-refresh)="([^"]*)"')
_FORM = re.compile(r'<form\b[^>]*method="post"[^>]*action="([^"]+)"[^>]*>(.*?)</form>', re.DOTALL)
_BUTTON = re.compile(r'<button\b[^>]*\bformaction="([^"]*)"')
_FIELD = re.compile(r'<input\b[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"')

__all__ = ["service"]


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Database]]:
    """The databases of both services after a day of work."""
    with lived(tmp_path_factory.mktemp("university")) as (databases, _, _):
        yield databases


@pytest.fixture
def app(service: Service, databases: Mapping[str, Database]) -> Iterator[Flask]:
    url = databases[service.name].engine.url.render_as_string()
    app = service.create(
        encryption_keys=KEY, database_url=url, log_level="ERROR", path_prefix=f"{PREFIX}/"
    )
    yield app
    Services.of(app).database.dispose()


@dataclass
class Crawler:
    """Opens the pages that others link to, a few of each view, and collects their forms."""

    app: Flask
    client: FlaskClient
    waiting: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    views: Counter[str] = field(default_factory=Counter)
    forms: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

    def crawl(self, *start: str) -> None:
        self.waiting += start
        while self.waiting:
            url = self.waiting.pop()
            view = self.view_of(url)
            if url not in self.seen and self.views[view] < _PAGES:
                self.views[view] += 1
                self.check(self.client.get(url), url)

    def check(self, response: TestResponse, url: str) -> None:
        """Check that a response stays under the prefix, and collect what it links to."""
        assert response.status_code < 400, (url, response.text)
        self.seen.add(url)
        self.check_location(response)
        if response.mimetype != "text/html":
            return
        for found in _URL.findall(response.text):
            linked = unescape(found)
            if linked.startswith("#"):
                continue
            assert linked.startswith(f"{PREFIX}/"), (url, linked)
            self.waiting.append(linked)
        for action, content in _FORM.findall(response.text):
            fields = {name: unescape(value) for name, value in _FIELD.findall(content)}
            self.forms[self.view_of(unescape(action), "POST")] = unescape(action), fields
            self.waiting.remove(unescape(action))
        for action in _BUTTON.findall(response.text):  # submits its form to another route
            self.waiting.remove(unescape(action))

    def check_location(self, response: TestResponse) -> None:
        if response.location is not None:
            assert response.location.startswith(f"{PREFIX}/")

    def view_of(self, url: str, method: str = "GET") -> str:
        path = urlsplit(url).path.removeprefix(PREFIX)
        endpoint, _ = self.app.url_map.bind("").match(path, method)
        return str(endpoint)


def sign_in(client: FlaskClient) -> TestResponse:
    token = token_in(client.get(f"{PREFIX}/sign-in"))
    fields = {"csrf_token": token, "name": "Ada", "password": PASSWORD, "next": f"{PREFIX}/"}
    return client.post(f"{PREFIX}/sign-in", data=fields)


@each_service
def test_no_page_form_or_redirect_leaves_the_prefix(app: Flask, service: Service) -> None:
    client = app.test_client()
    page = {"notifier": "/deliveries?status=dead", "receiver": "/runs"}[service.name]
    unknown = client.get(f"{PREFIX}{page}")
    signed_in = sign_in(client)
    crawler = Crawler(app, client)

    crawler.crawl(f"{PREFIX}/", f"{PREFIX}/docs")
    last = crawler.forms.pop("sign_in.sign_out")
    for action, fields in [*crawler.forms.values(), last]:
        response = client.post(
            action, data=fields, headers={"Referer": f"http://localhost{PREFIX}/"}
        )
        crawler.check_location(response)
        assert not re.search(rf'="/(?!{PREFIX[1:]}/)', response.text), action

    assert unquote(unknown.location) == f"{PREFIX}/sign-in?next={PREFIX}{page}"
    assert signed_in.location == f"{PREFIX}/"
    # A second installation on the same host, without the prefix, has another cookie.
    assert f"{service.cookie}-webhooks-admin=" in signed_in.headers["Set-Cookie"]
    assert client.get(f"{PREFIX}/openapi.json").json["servers"] == [{"url": PREFIX}]
    opened = {view for view in crawler.views if view.partition(".")[0] in app.blueprints}
    assert len(opened) >= 8
    assert len(crawler.forms) >= 3
