"""Every page's manners: nothing without sign-in, headers, errors as pages, no foreign thing."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.foundation.pages.conftest import Service, templates, token_in
from tests.foundation.pages.specimen import TEXT, add_specimen

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
OPEN = {"/sign-in", "/assets/<version>/<name>", "/docs", "/docs/<name>"}
PROGRAMS = ("/api/", "/webhooks/", "/openapi.json", "/healthz", "/readyz", "/metrics")


@pytest.fixture
def specimen(app: Flask) -> Flask:
    """The app with a page of every part."""
    add_specimen(app)
    return app


class Reader(HTMLParser):
    """What a page is made of: its tags with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))


def test_nothing_is_reached_without_sign_in(app: Flask, client: FlaskClient) -> None:
    doors = [
        (method, re.sub(r"<(?:[^:<>]+:)?[^<>]+>", "1", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule not in OPEN and not rule.rule.startswith(PROGRAMS)
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]

    answers = [(method, path, client.open(path, method=method)) for method, path in doors]

    assert len(doors) >= 3
    for method, path, answer in answers:
        assert (method, path, answer.status_code) == (method, path, 303)
        assert answer.headers["Location"].startswith("/sign-in?next=/")


@pytest.mark.parametrize("path", ["/", "/sign-in", "/nowhere", "/specimen/broken"])
def test_every_page_says_what_a_browser_may_do_with_it(
    specimen: Flask, signed_in: FlaskClient, path: str
) -> None:
    browser = specimen.test_client() if path == "/sign-in" else signed_in

    answer = browser.get(path, headers=HTML)

    assert answer.mimetype == "text/html"
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "Cookie"


def test_a_program_is_answered_as_before(service: Service, client: FlaskClient) -> None:
    path = {"notifier": "/api/v1/courses/CS101/grades", "receiver": "/webhooks/x/y"}[service.name]

    answer = client.get(path, headers=HTML)

    assert answer.mimetype == "application/problem+json"
    assert "Vary" not in answer.headers
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        pytest.param("http://localhost/specimen?a=1&b=2", "/specimen?a=1&amp;b=2", id="a page"),
        pytest.param("http://localhost/specimen/form", None, id="only a form leads there"),
        pytest.param("http://localhost/nowhere", None, id="no page"),
        pytest.param("http://elsewhere.example/specimen", None, id="elsewhere"),
        pytest.param("http://localhost//elsewhere.example/", None, id="elsewhere in a path"),
        pytest.param("http://[::1/specimen", None, id="no address"),
        pytest.param("", None, id="not told"),
    ],
)
def test_a_form_that_is_refused_leads_back(
    specimen: Flask, signed_in: FlaskClient, referer: str, back: str | None
) -> None:
    token = token_in(signed_in.get("/"))
    headers = {**HTML, **({"Referer": referer} if referer else {})}

    answer = signed_in.post("/specimen/form", headers=headers, data={"csrf_token": token})

    assert answer.status_code == 422
    links = re.findall(r'href="([^"]+)">Go back', answer.text)
    assert links == ([back] if back else [])


@pytest.mark.parametrize(
    ("title", "said"),
    [
        pytest.param(None, "This field is required.", id="not there"),
        pytest.param("", "This field is required.", id="empty"),
        pytest.param("x" * 11, "At most 10 characters are allowed.", id="too long"),
        pytest.param("no", "A title is not a no.", id="a rule of ours"),
    ],
)
def test_what_is_wrong_with_a_form_is_said_in_sentences(
    specimen: Flask, signed_in: FlaskClient, title: str | None, said: str
) -> None:
    data = {"csrf_token": token_in(signed_in.get("/"))}

    answer = signed_in.post(
        "/specimen/form", headers=HTML, data=data | ({} if title is None else {"title": title})
    )

    assert f"title: {said}" in answer.text


def test_a_number_that_no_row_can_have_leads_nowhere(app: Flask, signed_in: FlaskClient) -> None:
    numbered = re.compile(r"<int[^>]*>")
    doors = [
        (method, numbered.sub(str(2**63), rule.rule))
        for rule in app.url_map.iter_rules()
        if numbered.search(rule.rule)
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]

    answers = {(*door, signed_in.open(door[1], method=door[0]).status_code) for door in doors}

    assert {status for *_, status in answers} == {404}, answers


def test_no_path_at_all_is_no_redirect(client: FlaskClient) -> None:
    answer = client.get(environ_overrides={"PATH_INFO": ""})

    assert answer.status_code == 404
    assert "Location" not in answer.headers


class TestAssets:
    """Style, script and icon."""

    def test_they_are_kept_for_good(self, client: FlaskClient) -> None:
        page = client.get("/sign-in").text
        addresses = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page)

        answers = [client.get(address) for address in addresses]

        assert [answer.mimetype for answer in answers] == [
            "image/svg+xml",
            "text/css",
            "text/javascript",
        ]
        for answer in answers:
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert "Set-Cookie" not in answer.headers

    @pytest.mark.parametrize(
        "path",
        [
            pytest.param("/assets/0123456789abcdef/pages.css", id="another version"),
            pytest.param("/assets/0123456789abcdef/none.css", id="no such file"),
            pytest.param("/assets/x/..%2f__init__.py", id="a file elsewhere"),
            pytest.param("/assets/x/", id="the folder"),
        ],
    )
    def test_nothing_else_is_served(self, client: FlaskClient, path: str) -> None:
        assert client.get(path).status_code == 404


class TestRefusals:
    """Errors as pages."""

    @pytest.mark.parametrize("signed", [False, True], ids=["a stranger", "a user"])
    def test_a_page_that_there_is_not(
        self, client: FlaskClient, ada: str, request: pytest.FixtureRequest, signed: bool
    ) -> None:
        if signed:
            request.getfixturevalue("signed_in")

        answer = client.get("/nowhere/<b>", headers=HTML)

        assert (answer.status_code, answer.mimetype) == (404, "text/html")
        assert "<h1>Page not found</h1>" in answer.text
        assert "What to do:" in answer.text
        assert f"<code>{answer.headers['X-Request-Id']}</code>" in answer.text
        assert ("Sign out" in answer.text) is signed

    def test_what_a_program_asks_for_is_a_problem(self, client: FlaskClient) -> None:
        answer = client.get("/nowhere", headers={"Accept": "application/json"})

        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")

    def test_another_method_is_refused_with_those_that_there_are(self, client: FlaskClient) -> None:
        answer = client.put("/sign-in", headers=HTML)

        assert (answer.status_code, answer.mimetype) == (405, "text/html")
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}

    @pytest.mark.parametrize("path", ["/", "/sign-in", "/nowhere"])
    def test_a_host_that_is_none_is_said_without_a_page(
        self, client: FlaskClient, path: str
    ) -> None:
        answer = client.get(path, headers=HTML, environ_overrides={"HTTP_HOST": "a..b"})

        assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
        assert answer.get_json()["detail"] == "the Host header is not a valid host name"

    def test_what_fails_unforeseen_says_whom_to_ask(
        self, specimen: Flask, signed_in: FlaskClient
    ) -> None:
        answer = signed_in.get("/specimen/broken")

        assert (answer.status_code, answer.mimetype) == (500, "text/html")
        assert "Give the request id to the operators of this service" in answer.text
        assert "planted" not in answer.text
        assert "Sign out" in answer.text

    def test_a_database_that_is_away_is_said(
        self,
        make_app: Callable[..., Flask],
        tmp_path: Path,
        signed_in: FlaskClient,
        service: Service,
    ) -> None:
        """Every page is a 503 then, and says when to try again (F27)."""
        away = make_app(database_url=f"sqlite:///{tmp_path}/none/x.db").test_client()
        cookie = signed_in.get_cookie(service.cookie)
        assert cookie is not None
        away.set_cookie(service.cookie, cookie.value)
        with away.session_transaction() as kept:
            assert "_user_id" in kept

        answers = [away.get("/"), away.get("/sign-in")]
        fresh = make_app(database_url=f"sqlite:///{tmp_path}/none/x.db").test_client()
        fields = {"name": "Ada", "password": "x", "csrf_token": token_in(fresh.get("/sign-in"))}
        answers.append(fresh.post("/sign-in", data=fields))

        for answer in answers:
            assert (answer.status_code, answer.mimetype) == (503, "text/html")
            assert "The database is busy or unavailable." in answer.text
            assert f"<code>{service.name} doctor</code>" in answer.text
            assert answer.headers["Retry-After"] == "5"
            assert "Try again after 5 seconds." in answer.text


class TestSpecimen:
    """Every part of a page, with what people may call things."""

    def test_names_are_text_whatever_stands_in_them(
        self, specimen: Flask, signed_in: FlaskClient
    ) -> None:
        page = signed_in.get("/specimen").text

        tags = Reader(page).tags
        scripts = [attrs for tag, attrs in tags if tag == "script"]
        assert len(scripts) == 1
        assert str(scripts[0]["src"]).startswith("/assets/")
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert any(tag == "bdi" for tag, _ in tags)
        assert TEXT.replace("<", "&lt;")[:3] in page

    def test_no_tag_has_a_style_or_a_script_of_its_own(
        self, specimen: Flask, signed_in: FlaskClient
    ) -> None:
        tags = Reader(signed_in.get("/specimen").text).tags

        for tag, attrs in tags:
            assert tag != "style"
            assert not {name for name in attrs if name == "style" or name.startswith("on")}
            for name in ("src", "href", "action"):
                assert str(attrs.get(name, "/")).startswith(("/", "#"))

    def test_every_id_is_one(self, specimen: Flask, signed_in: FlaskClient) -> None:
        tags = Reader(signed_in.get("/specimen").text).tags
        ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
        spoken_of = {
            one
            for _, attrs in tags
            for name in ("for", "aria-describedby", "aria-labelledby")
            for one in str(attrs.get(name) or "").split()
        }

        assert len(ids) == len(set(ids))
        assert spoken_of <= set(ids)


@pytest.mark.parametrize("path", templates(), ids=lambda path: path.name)
def test_no_file_of_ours_fetches_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text) == []
    assert "style=" not in text
    assert not re.search(r"<script(?! src=)", text)
    assert not re.search(r"\son[a-z]+=", text)
