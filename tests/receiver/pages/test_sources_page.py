"""The pages of the sources."""

from datetime import UTC, datetime

import pytest

from contract import events, signatures
from contract.events import UnknownEvent
from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.db.audit import AuditEntry
from foundation.db.session import Database
from receiver.models import MOODLE, Source
from receiver.sources import store as sources
from tests.receiver.conftest import NINE, Store, make_heartbeat
from tests.receiver.pages.conftest import Browser

URL = "https://one.example"
SITE_TOKEN = "0123456789abcdef" * 2


def test_source_has_its_last_webhook_and_request(browser: Browser, store: Store) -> None:
    source = store.add_source("one", URL, (Secret.generate(),))
    store.receive("msg_1", UnknownEvent(type="endpoint.ping"))
    with store.database.writing() as session:
        sources.record_request(session, {source.id}, now=NINE)

    listed, page = browser.get("/sources"), browser.get("/sources/one")

    nine = "2026-11-22 09:00:00 UTC"
    assert listed.rows == [f"one https:// one.example 1 {nine} {nine}"]
    assert (
        f"Interface Grades API URL {URL} Webhook path POST /webhooks/one "
        f"Last webhook {nine} Heartbeat No heartbeat announced Last request {nine}"
    ) in page.text
    assert f"Secret 1 added {nine}" in page.text


def test_silent_source_is_marked(browser: Browser, store: Store) -> None:
    store.add_source("one", URL, (Secret.generate(),))
    store.receive("msg_1", make_heartbeat())

    listed, page = browser.get("/sources"), browser.get("/sources/one")

    nine = "2026-11-22 09:00:00 UTC"
    assert listed.rows == [f"one https:// one.example 1 {nine} silent never"]
    assert f"Last webhook {nine} silent for more than two heartbeats. Check at" in page.text


def test_refused_webhooks_are_shown_until_one_is_accepted(
    browser: Browser, store: Store, vault: Vault
) -> None:
    secret = Secret.generate()
    store.add_source("one", URL, (secret,))

    def send(signed_by: Secret) -> None:
        body, at = events.dump_ping("one", NINE), datetime.now(UTC)
        headers = signatures.sign([signed_by], "msg_1", body.encode(), now=at)
        browser.client.post(
            "/webhooks/one", data=body, headers=headers, content_type="application/json"
        )

    send(Secret.generate())
    listed, refused = browser.get("/sources"), browser.get("/sources/one")
    send(secret)
    accepted = browser.get("/sources/one")

    assert "never refused with 401 20" in listed.rows[0]
    assert "UTC : no signature matches: the secret, id, timestamp or body is" in refused.text
    assert "its secret is not one of those below" in refused.text
    assert "Refused webhooks" not in accepted.text


def test_sources_are_exported(browser: Browser, store: Store) -> None:
    store.add_source("one", URL, (Secret.generate(),))

    rows = browser.get("/sources.csv").html.splitlines()

    assert rows[1] == f"one,api,{URL},1,no,2026-11-22T09:00:00.123456Z,,,no"


def test_secrets_are_not_shown(browser: Browser, database: Database, vault: Vault) -> None:
    secret, token = Secret.generate(), MoodleToken(SITE_TOKEN)
    with database.writing() as session:
        source = sources.add(session, "moodle", "https://m.example", MOODLE, now=NINE)
        row = sources.add_secret(session, source, secret, vault=vault, now=NINE)
        sources.set_site_token(session, source, token, vault=vault)
        encrypted = [row.encrypted, str(source.encrypted_site_token)]

    page = browser.get("/sources/moodle")

    assert "Secret 1 added" in page.text
    assert "Site token One is stored; it cannot be shown." in page.text
    for hidden in (secret.reveal().removeprefix("whsec_"), token.text, *encrypted):
        assert hidden not in page.html


def test_source_is_added(browser: Browser, store: Store) -> None:
    secret = Secret.generate()

    page = browser.submit(
        "/new-source", name=" new ", url=f"{URL}/", kind="api", secret=secret.reveal()
    )
    later = browser.submit("/new-source", name="later", url=URL, kind="moodle", secret="")

    assert page.text.startswith("Source added. Sources new ")
    assert "Secret 1 added" in page.text
    assert "Webhooks are refused until a secret is added." in later.text
    assert [(source.name, source.url) for source in store.rows(Source)] == [
        *(("new", URL), ("later", URL))
    ]
    assert [row.action for row in store.rows(AuditEntry)] == ["source.add"] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"name": "a b"}, "'a b' is not a valid name of a source.", id="name"),
        pytest.param({"name": "one"}, "The source one already exists.", id="existing"),
        pytest.param({"url": "ftp://x.example"}, "is not an http or https URL", id="URL"),
        pytest.param({"secret": "whsec_planted"}, "A webhook secret is `whsec_`", id="secret"),
    ],
)
def test_invalid_source_is_not_added(
    browser: Browser, store: Store, fields: dict[str, str], message: str
) -> None:
    store.add_source("one", URL)
    given = {"name": "two", "url": URL, "kind": "api", "secret": ""}

    page = browser.post("/new-source", **(given | fields))

    assert (page.status, message in page.text) == (422, True)
    assert "planted" not in page.html
    assert len(store.rows(Source)) == 1


def test_source_is_changed_on_its_page(browser: Browser, store: Store) -> None:
    store.add_source("one", URL, (Secret.generate(),), MOODLE)
    new = Secret.generate()

    added = browser.submit("/sources/one/secrets", secret=f" {new.reveal()}\n")
    removed = browser.submit("/sources/one/secrets/1/remove")
    again = browser.submit("/sources/one/secrets/1/remove")
    kept = browser.submit("/sources/one/secrets/2/remove")
    moved = browser.submit("/sources/one/url", url=" https://moved.example/ ")
    token = browser.submit("/sources/one/site-token", site_token=SITE_TOKEN)

    assert "Secret 2 added." in added.text
    assert "Secret 1 removed." in removed.text
    assert "The source one has no secret 1." in again.text
    assert "The secret 2 is the last one of one. Add the new secret first." in kept.text
    assert "It is the last one: all webhooks of one are refused" in kept.text
    assert "URL https://moved.example Webhook path" in moved.text
    assert "Site token saved." in token.text
    with store.database.reading() as session:
        source = sources.get(session, "one")
        assert sources.secrets_of(source, vault=store.vault) == [new]
        assert sources.site_token_of(source, vault=store.vault) == MoodleToken(SITE_TOKEN)

    last = browser.submit("/sources/one/secrets/2/remove", even_last="true")

    assert "none Webhooks are refused until a secret is added." in last.text
    assert [(row.actor, row.action, row.detail) for row in store.rows(AuditEntry)] == [
        ("Ada", "source.add-secret", "secret 2"),
        ("Ada", "source.remove-secret", "secret 1"),
        ("Ada", "source.set-url", "https://moved.example"),
        ("Ada", "source.set-site-token", ""),
        ("Ada", "source.remove-secret", "secret 2"),
    ]


@pytest.mark.parametrize(
    ("form", "fields", "message"),
    [
        pytest.param(
            "one/secrets", {"secret": "whsec_planted"}, "A webhook secret is `whsec_`", id="secret"
        ),
        pytest.param("one/secrets", {"secret": ""}, "A webhook secret", id="no secret"),
        pytest.param("one/secrets", {}, "This field is required.", id="no field"),
        pytest.param("one/url", {"url": "ftp://one"}, "is not an http or https URL", id="URL"),
        pytest.param("m/site-token", {"site_token": "planted!"}, "A Moodle token is", id="token"),
    ],
)
def test_invalid_value_is_refused(
    browser: Browser, store: Store, form: str, fields: dict[str, str], message: str
) -> None:
    store.add_source("one", URL)
    store.add_source("m", kind=MOODLE)
    before = store.everything()

    page = browser.post(f"/sources/{form}", **fields)

    assert (page.status, message in page.text) == (422, True)
    assert "planted" not in page.html  # a secret is not sent back
    assert store.everything() == before


def test_source_without_courses_can_be_removed(browser: Browser, store: Store) -> None:
    store.add_course("CS101")

    refused = browser.submit("/sources/one/remove")
    store.add_source("empty")
    removed = browser.submit("/sources/empty/remove")
    missing = browser.post("/sources/empty/remove")

    assert "The source one has 1 course in the grade sync. Remove its courses first" in refused.text
    assert '<a href="/?source=one">Courses of one</a>' in refused.html
    assert "The source empty was removed." in removed.text
    assert missing.status == 404
    assert [source.name for source in store.rows(Source)] == ["one"]


def test_site_token_of_another_source_is_refused(browser: Browser, store: Store) -> None:
    store.add_source("one")

    page = browser.submit("/sources/one/site-token", site_token=SITE_TOKEN)

    assert "The source one is not a Moodle, but of the kind api." in page.text


def test_missing_secrets_and_requests_are_shown(browser: Browser, store: Store) -> None:
    store.add_source("moodle", kind=MOODLE)

    page = browser.get("/sources/moodle")

    assert "none Webhooks are refused until a secret is added." in page.text
    assert "None is stored. It is needed to confirm deletions." in page.text
    assert "Last webhook never Heartbeat No heartbeat announced Last request never" in page.text
