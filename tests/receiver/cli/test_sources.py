"""`receiver sources …`."""

import json

import pytest

from contract.signatures import Secret
from receiver.models import Source, SourceSecret
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import Store, make_heartbeat

URL = "https://eassessment.example"
SITE_TOKEN = "0123456789abcdef" * 2


def test_add_stores_the_secret(receiver: Receiver, store: Store) -> None:
    secret = Secret.generate().reveal()

    result = receiver("sources", "add", "one", "--url", URL, stdin=f"{secret}\n")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "The source one is added; its grades are fetched from https://" in result.stdout
    assert secret not in result.output
    assert len(store.rows(SourceSecret)) == 1


@pytest.mark.parametrize(
    ("kind", "where"), [("api", "there"), ("moodle", "at the notifier of that Moodle")]
)
def test_secret_can_be_added_later(receiver: Receiver, store: Store, kind: str, where: str) -> None:
    added = receiver("sources", "add", "one", "--url", URL, "--kind", kind)
    later = receiver("sources", "add-secret", "one", stdin=Secret.generate().reveal())

    assert (added.exit_code, later.exit_code) == (0, 0)
    assert f"Register the URL of /webhooks/one {where}" in added.stdout
    assert "`receiver sources add-secret one`. Until then its webhooks are refused" in added.stdout
    assert later.stdout == "The secret 1 is added; one has 1 now.\n"
    assert len(store.rows(SourceSecret)) == 1


def test_webhook_path_has_the_prefix(receiver: Receiver, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RECEIVER_PATH_PREFIX", "/sync")

    added = receiver("sources", "add", "one", "--url", URL)
    (listed,) = json.loads(receiver("sources", "list", "--json").stdout)["sources"]

    assert "Register the URL of /sync/webhooks/one there" in added.stdout
    assert listed["webhook_path"] == "/sync/webhooks/one"
    assert "/sync/webhooks/one" in receiver("sources", "list").stdout


def test_remove_secret(receiver: Receiver, store: Store) -> None:
    store.add_source("one", secrets=(Secret.generate(), Secret.generate()))

    first = receiver("sources", "remove-secret", "one", "1")
    unasked = receiver("sources", "remove-secret", "one", "2")
    last = receiver("sources", "remove-secret", "one", "2", "--yes")
    repeated = receiver("sources", "remove-secret", "one", "2")

    assert first.stdout == "The secret 1 is removed; one has 1 left.\n"
    assert unasked.exit_code == 2
    assert "Remove the last secret of one, so that all its webhooks are refused?" in unasked.stderr
    assert "Its webhooks are refused until" in last.stdout
    assert (repeated.exit_code, "the source one has no secret 2" in repeated.stderr) == (1, True)


def test_set_url(receiver: Receiver, store: Store) -> None:
    store.add_source("one", URL)

    invalid = receiver("sources", "set-url", "one", "ftp://x.example")
    changed = receiver("sources", "set-url", "one", "https://moved.example/")

    assert (invalid.exit_code, "not an http or https URL" in invalid.stderr) == (1, True)
    assert changed.stdout.startswith("The URL of one is https://moved.example now; the next")
    assert [source.url for source in store.rows(Source)] == ["https://moved.example"]


def test_remove_refuses_source_with_courses(receiver: Receiver, store: Store) -> None:
    store.add_course("CS101", source="one")

    unasked = receiver("sources", "remove", "one")
    refused = receiver("sources", "remove", "one", "--yes")
    emptied = receiver("registry", "remove", "--all", "--source", "one", "--yes")
    removed = receiver("sources", "remove", "one", "--yes")

    assert (unasked.exit_code, "Remove the source one, http" in unasked.stderr) == (2, True)
    assert refused.exit_code == 1
    assert "the source one has 1 course in the grade sync" in refused.stderr
    assert "Run `receiver registry remove --all --source one`" in refused.stderr
    assert (emptied.exit_code, removed.stdout) == (0, "The source one is removed.\n")
    assert store.rows(Source) == []


def test_list_shows_silent_sources(receiver: Receiver, store: Store) -> None:
    store.add_source("one", URL)
    store.receive("msg_1", make_heartbeat())
    store.add_source("two", URL)

    table = receiver("sources", "list").stdout
    listed = json.loads(receiver("sources", "list", "--json").stdout)["sources"]

    fields = ("last_webhook_at", "heartbeat_seconds", "silent")
    assert "2026-11-22 09:00:00 UTC, silent" in " ".join(table.split())
    assert [tuple(one[name] for name in fields) for one in listed] == [
        ("2026-11-22T09:00:00.123456Z", 3600, True),
        (None, None, False),
    ]


def test_list_shows_no_secrets(receiver: Receiver, store: Store) -> None:
    secret = Secret.generate()
    empty = receiver("sources", "list")
    store.add_source("one", URL, (secret,))
    receiver("sources", "add", "m", "--url", URL, "--kind", "moodle")
    entered = receiver("sources", "set-site-token", "m", stdin=f"{SITE_TOKEN}\n")

    table, listed = receiver("sources", "list"), receiver("sources", "list", "--json")
    exported = receiver("sources", "list", "--csv")

    assert empty.stdout.startswith("No sources. Add eAssessment with")
    assert entered.stdout == "The site-wide token of m is stored.\n"
    assert "/webhooks/one" in table.stdout
    by_name = {source["source"]: source for source in json.loads(listed.stdout)["sources"]}
    assert (by_name["one"]["kind"], by_name["one"]["site_token_set"]) == ("api", False)
    assert [each["secret_id"] for each in by_name["one"]["secrets"]] == [1]
    assert (by_name["m"]["kind"], by_name["m"]["site_token_set"]) == ("moodle", True)
    assert exported.stdout.splitlines()[2].startswith(f"one,api,{URL},1,no,2026-11-22T09:00:00")
    for hidden in (secret.reveal(), SITE_TOKEN):
        assert hidden not in table.output + listed.output + entered.output + exported.output


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        pytest.param("add-secret one", "", "no secret was entered", id="no secret"),
        pytest.param("add-secret one", "whsec_planted", "a webhook secret", id="invalid secret"),
        pytest.param("set-site-token m", "planted!", "a Moodle token is 32", id="invalid token"),
        pytest.param("set-site-token one", SITE_TOKEN, "is not a Moodle", id="not a Moodle"),
    ],
)
def test_invalid_value_is_refused_and_not_shown(
    receiver: Receiver, words: str, stdin: str, message: str
) -> None:
    receiver("sources", "add", "one", "--url", URL)
    receiver("sources", "add", "m", "--url", URL, "--kind", "moodle")

    result = receiver("sources", *words.split(), stdin=stdin)

    assert result.exit_code == 1
    assert message in result.stderr
    assert "planted" not in result.output
