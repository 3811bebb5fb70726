"""The page of the sources."""

from contract.events import UnknownEvent
from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.models import MOODLE
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources import store as sources
from tests.receiver.conftest import NINE, Store
from tests.receiver.pages.conftest import Browser


def test_source_has_its_last_webhook_and_request(browser: Browser, store: Store) -> None:
    store.add_source("one", "https://one.example", (Secret.generate(),))
    store.receive("msg_1", UnknownEvent(type="endpoint.ping"))
    store.add_run(CourseResult("one", "CS101", CourseOutcome.UNCHANGED))

    page = browser.get("/sources")

    assert (
        "one Interface Grades API URL https://one.example "
        "Webhook path POST /webhooks/one "
        "Webhook secrets secret 1, entered 2026-11-22 09:00:00 UTC "
        "Courses Show courses of one Last webhook 2026-11-22 09:00:00 UTC "
        "Last request 2026-11-22 09:00:00 UTC , in run 1"
    ) in page.text


def test_secrets_are_not_shown(browser: Browser, database: Database, vault: Vault) -> None:
    secret, token = Secret.generate(), MoodleToken("0123456789abcdef" * 2)
    with database.writing() as session:
        source = sources.add(session, "moodle", "https://m.example", MOODLE, now=NINE)
        row = sources.add_secret(session, source, secret, vault=vault, now=NINE)
        sources.set_site_token(session, source, token, vault=vault)
        encrypted = [row.encrypted, str(source.encrypted_site_token)]

    page = browser.get("/sources")

    assert "secret 1, entered" in page.text
    assert "Site token stored" in page.text
    for hidden in (secret.reveal().removeprefix("whsec_"), token.text, *encrypted):
        assert hidden not in page.html


def test_missing_secrets_are_shown_with_the_command(browser: Browser, store: Store) -> None:
    store.add_source("moodle", kind=MOODLE)

    page = browser.get("/sources")

    assert "receiver sources add-secret moodle" in page.text
    assert "receiver sources set-site-token moodle" in page.text
    assert "Last webhook never Last request not in the last 20 runs" in page.text
