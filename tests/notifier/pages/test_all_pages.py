"""What the pages of eAssessment have in common."""

from typing import Any

import pytest
from flask import Flask

from notifier.models import DeliveryStatus
from notifier.pages.navigation import SITE
from tests.notifier.conftest import NINE, Store
from tests.notifier.pages.conftest import URL, Browser


@pytest.mark.parametrize(
    ("path", "text", "link"),
    [
        pytest.param("/", "There are no endpoints, so nothing is sent.", "/endpoints/new", id="/"),
        pytest.param("/courses", "No courses yet.", "/courses/new", id="courses"),
        pytest.param("/endpoints", "No endpoints yet", "/endpoints/new", id="endpoints"),
        pytest.param("/deliveries", "No deliveries yet.", "/endpoints/new", id="deliveries"),
    ],
)
def test_empty_page_says_what_to_do_first(ada: Browser, path: str, text: str, link: str) -> None:
    page = ada.look(path)

    assert text in page
    assert f'href="{link}"' in page


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param("/courses/one?course_id=CS9", "There is no course &#39;CS9&#39;", id="course"),
        pytest.param("/deliveries/99", "There is no delivery 99", id="delivery"),
        pytest.param("/endpoints/99", "There is no endpoint 99", id="endpoint"),
        pytest.param("/endpoints/99/live", "There is no endpoint 99", id="part of a page"),
    ],
)
def test_unknown_id_is_a_404_page(ada: Browser, path: str, text: str) -> None:
    assert text in ada.look(path, 404)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param("/courses/announce", {"course_id": "7731", "version": 1}, id="course"),
        pytest.param("/deliveries/99/replay", {}, id="delivery"),
        pytest.param("/endpoints/99/ping", {}, id="endpoint"),
        pytest.param("/endpoints/99/secret", {"overlap": "24h", "newest": 1}, id="secret"),
    ],
)
def test_form_for_an_unknown_id_changes_nothing(
    ada: Browser, store: Store, path: str, fields: dict[str, Any]
) -> None:
    before = store.rows()

    response = ada.send(path, **fields)

    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert store.rows() == before


def test_form_without_a_token_of_the_session_changes_nothing(
    app: Flask, ada: Browser, store: Store
) -> None:
    store.add_course("CS101")
    store.add_delivery(store.add_endpoint().id, status=DeliveryStatus.DEAD)
    names = {page.name for page in SITE.pages}
    paths = [
        rule.rule.partition("<")[0] + ("1" + rule.rule.rpartition(">")[2] if rule.arguments else "")
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or set()) and rule.endpoint.partition(".")[0] in names
    ]
    fields = {"csrf_token": "guessed", "course_id": "CS101", "version": "1", "status": "dead"}
    before = store.rows()

    responses = [ada.client.post(path, data=fields) for path in paths]

    assert "The form is not from a page of this session" in responses[0].text
    assert [response.status_code for response in responses] == [400] * len(paths)
    assert store.rows() == before


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/", id="overview"),
        pytest.param("/courses", id="courses"),
        pytest.param("/courses?q=a", id="courses, searched"),
        pytest.param("/deliveries?status=dead", id="deliveries"),
        pytest.param("/endpoints", id="endpoints"),
    ],
)
def test_statements_do_not_grow(ada: Browser, store: Store, path: str) -> None:
    counts = []
    for numbers in (range(1), range(1, 6)):
        for number in numbers:
            endpoint = store.add_endpoint(f"{URL}/{number}")
            store.add_delivery(endpoint.id)
            dead = {"status": DeliveryStatus.DEAD, "settled_at": NINE}
            store.add_delivery(endpoint.id, reason=f"reason {number}", **dead)
            store.add_course(f"A{number}")
        counts.append(store.count_statements(lambda: ada.look(path)))

    assert counts[0] == counts[1]
