"""What all pages have in common: sign-in, headers, error pages, forms, assets, markup."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask, url_for
from flask.testing import FlaskClient

from foundation.db.session import Database
from foundation.errors import ConfigurationError
from tests.foundation.pages.conftest import HTML, Service, copy_of, each_service, token_in
from tests.foundation.pages.sample_page import add_sample_page

ROOT = Path(__file__).parents[3]
FILES = sorted(
    path
    for folder in ("foundation", "notifier", "receiver")
    for path in (ROOT / folder / "pages").rglob("*")
    if path.suffix in {".html", ".css", ".js", ".svg"}
)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Vary": "Cookie",
}
PUBLIC = {"/sign-in", "/assets/<version>/<name>", "/docs", "/docs/<name>"}
NOT_PAGES = ("/api/", "/webhooks/", "/openapi.json", "/healthz", "/readyz", "/metrics")


def test_path_of_the_service_is_no_prefix(make_app: Callable[..., Flask]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_app(path_prefix="/courses")

    assert str(refused.value) == "NOTIFIER_PATH_PREFIX: /courses is a path of the service itself"


@each_service
def test_every_page_refuses_parameters_that_it_does_not_take(
    app: Flask, signed_in: FlaskClient
) -> None:
    with app.test_request_context():
        paths = [
            url_for(rule.endpoint, **dict.fromkeys(rule.arguments, 1), bogus="x")
            for rule in app.url_map.iter_rules()
            if "GET" in (rule.methods or ())
            and getattr(app.view_functions[rule.endpoint], "guard", None) == "a signed-in user"
        ]

    pages = {path: signed_in.get(path) for path in paths}

    assert {path: page.status_code for path, page in pages.items()} == dict.fromkeys(paths, 422)
    assert "parameter &#39;bogus&#39; is unknown" in pages["/?bogus=x"].text


@pytest.fixture
def sample_page(app: Flask) -> Flask:
    add_sample_page(app)
    return app


def routes(app: Flask, replacement: str, pattern: str) -> list[tuple[str, str]]:
    """Return method and path of each route of a page, with converters replaced."""
    return [
        (method, re.sub(pattern, replacement, rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule not in PUBLIC and not rule.rule.startswith(NOT_PAGES)
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]


@each_service
def test_every_page_needs_sign_in(app: Flask, client: FlaskClient) -> None:
    pages = routes(app, "1", r"<[^<>]+>")

    responses = {(*page, client.open(page[1], method=page[0]).location[:15]) for page in pages}

    assert len(pages) >= 3
    assert {location for *_, location in responses} == {"/sign-in?next=/"}, responses


@each_service
def test_number_that_no_row_can_have_is_not_found(app: Flask, signed_in: FlaskClient) -> None:
    numbered = [page for page in routes(app, str(2**63), r"<int[^>]*>") if str(2**63) in page[1]]

    statuses = {(*page, signed_in.open(page[1], method=page[0]).status_code) for page in numbered}

    assert {status for *_, status in statuses} == {404}, statuses


@pytest.mark.parametrize("path", ["/", "/sign-in", "/nowhere", "/sample/broken"])
def test_every_page_has_the_security_headers(
    sample_page: Flask, signed_in: FlaskClient, path: str
) -> None:
    browser = sample_page.test_client() if path == "/sign-in" else signed_in

    response = browser.get(path, headers=HTML)

    assert response.mimetype == "text/html"
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert "camera=()" in response.headers["Permissions-Policy"]


@each_service
def test_programs_get_problems_and_no_session(service: Service, client: FlaskClient) -> None:
    path = {"notifier": "/api/v1/courses/CS101/grades", "receiver": "/webhooks/x/y"}[service.name]

    response = client.get(path, headers=HTML)
    nowhere = client.get("/nowhere", headers={"Accept": "application/json"})

    assert response.mimetype == nowhere.mimetype == "application/problem+json"
    assert not {"Vary", "Set-Cookie"} & set(response.headers.keys())


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        pytest.param("http://localhost/sample?a=1&b=2", "/sample?a=1&amp;b=2", id="page"),
        pytest.param("http://localhost/sample/form", None, id="only a form leads there"),
        pytest.param("http://elsewhere.example/sample", None, id="elsewhere"),
        pytest.param("http://localhost//elsewhere.example/", None, id="elsewhere in a path"),
        pytest.param("http://[::1/sample", None, id="invalid"),
        pytest.param("", None, id="none"),
    ],
)
def test_refused_form_leads_back_to_its_page(
    sample_page: Flask, signed_in: FlaskClient, referer: str, back: str | None
) -> None:
    token = token_in(signed_in.get("/"))
    headers = {**HTML, "Referer": referer}

    response = signed_in.post("/sample/form", headers=headers, data={"csrf_token": token})

    assert response.status_code == 422
    assert re.findall(r'href="([^"]+)">Go back', response.text) == ([back] if back else [])


def test_refused_form_leads_back_to_its_page_under_a_prefix(
    sample_page: Flask, signed_in: FlaskClient
) -> None:
    token = token_in(signed_in.get("/"))
    headers = {**HTML, "Referer": "http://localhost/admin/sample"}

    response = signed_in.post(
        "/sample/form",
        base_url="http://localhost/admin",
        headers=headers,
        data={"csrf_token": token},
    )

    assert 'href="/admin/sample">Go back' in response.text
    assert 'href="/admin/">Go to the start page' in response.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({}, "This field is required.", id="missing"),
        pytest.param({"title": ""}, "This field is required.", id="empty"),
        pytest.param({"title": "x" * 11}, "At most 10 characters are allowed.", id="too long"),
        pytest.param({"title": "no"}, "A title is not a no.", id="validator"),
    ],
)
def test_invalid_field_is_explained_in_a_sentence(
    sample_page: Flask, signed_in: FlaskClient, fields: dict[str, str], said: str
) -> None:
    token = token_in(signed_in.get("/"))

    response = signed_in.post("/sample/form", headers=HTML, data={"csrf_token": token, **fields})

    assert f"title: {said}" in response.text


@pytest.mark.parametrize("fixture", ["client", "signed_in"])
def test_missing_page_is_a_page_with_the_request_id(
    request: pytest.FixtureRequest, fixture: str
) -> None:
    response = request.getfixturevalue(fixture).get("/nowhere/<b>", headers=HTML)

    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "<h1>Page not found</h1>" in response.text
    assert "What to do:" in response.text
    assert f"<code>{response.headers['X-Request-Id']}</code>" in response.text
    assert ("Sign out" in response.text) is (fixture == "signed_in")


def test_other_method_is_a_page_with_the_allowed_ones(client: FlaskClient) -> None:
    response = client.put("/sign-in", headers=HTML)

    assert (response.status_code, response.mimetype) == (405, "text/html")
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_invalid_host_is_a_problem_without_a_page(client: FlaskClient) -> None:
    response = client.get("/", headers=HTML, environ_overrides={"HTTP_HOST": "a..b"})

    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
    assert response.get_json()["detail"] == "the Host header is not a valid host name"


def test_unexpected_error_is_a_page_without_details(
    sample_page: Flask, signed_in: FlaskClient
) -> None:
    response = signed_in.get("/sample/broken")

    assert (response.status_code, response.mimetype) == (500, "text/html")
    assert "Give the request id to the operators of this service" in response.text
    assert "planted" not in response.text
    assert "Sign out" in response.text


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_every_page_names_a_read_only_database(
    make_app: Callable[..., Flask], database: Database, service: Service, signed_in: FlaskClient
) -> None:
    url = database.engine.url.update_query_dict({"options": "-ctransaction_read_only=on"})
    read_only = make_app(database_url=url.render_as_string(hide_password=False))

    page = copy_of(signed_in, read_only, service).get("/", follow_redirects=True)

    assert page.status_code == 200
    assert "The database takes no writes: its transactions are read-only." in page.text


def test_unavailable_database_is_a_page_that_says_when_to_try_again(
    make_app: Callable[..., Flask], tmp_path: Path, signed_in: FlaskClient, service: Service
) -> None:  # F27
    away = make_app(database_url=f"sqlite:///{tmp_path}/none/x.db")
    known, stranger = copy_of(signed_in, away, service), away.test_client()
    fields = {"name": "Ada", "password": "x", "csrf_token": token_in(stranger.get("/sign-in"))}

    responses = [known.get("/"), known.get("/sign-in"), stranger.post("/sign-in", data=fields)]

    for response in responses:
        assert (response.status_code, response.mimetype) == (503, "text/html")
        assert "The database is busy or unavailable." in response.text
        assert f"<code>{service.name} doctor</code>" in response.text
        assert response.headers["Retry-After"] == "5"
        assert "Try again after 5 seconds." in response.text


def test_assets_are_cached_for_a_year(client: FlaskClient) -> None:
    urls = re.findall(r'(?:href|src)="(/assets/[^"]+)"', client.get("/sign-in").text)

    responses = [client.get(url) for url in urls]

    assert [one.mimetype for one in responses] == ["image/svg+xml", "text/css", "text/javascript"]
    for response in responses:
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/assets/0123456789abcdef/pages.css", id="other version"),
        pytest.param("/assets/x/..%2f__init__.py", id="file elsewhere"),
        pytest.param("/assets/x/", id="folder"),
    ],
)
def test_other_files_are_not_served(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


class Tags(HTMLParser):
    """The tags of a page with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_parts_escape_text_and_have_no_inline_code(
    sample_page: Flask, signed_in: FlaskClient
) -> None:
    page = signed_in.get("/sample").text

    tags = Tags(page).found
    (script,) = (attributes for tag, attributes in tags if tag == "script")
    assert str(script["src"]).startswith("/assets/")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert any(tag == "bdi" for tag, _ in tags)
    for tag, attributes in tags:
        assert tag != "style"
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        for name in ("src", "href", "action"):
            assert str(attributes.get(name, "/")).startswith(("/", "#"))


def test_ids_of_parts_are_unique_and_exist(sample_page: Flask, signed_in: FlaskClient) -> None:
    tags = Tags(signed_in.get("/sample").text).found

    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    named = {
        one
        for _, attributes in tags
        for name in ("for", "aria-describedby", "aria-labelledby")
        for one in str(attributes.get(name) or "").split()
    }
    assert len(ids) == len(set(ids))
    assert named <= set(ids)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_loads_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text) == []
    assert not re.search(r"style=|<script(?! src=)|\son[a-z]+=", text)
