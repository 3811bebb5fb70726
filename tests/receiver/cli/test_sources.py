"""`receiver sources …`."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from contract.signatures import Secret
from receiver.models import Source, SourceSecret

URL = "https://eassessment.example"


def test_add_stores_the_secret(
    receiver: Callable[..., Result], rows: Callable[..., list[SourceSecret]]
) -> None:
    secret = Secret.generate().reveal()

    result = receiver("sources", "add", "one", "--url", URL, stdin=f"{secret}\n")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "The source one is added; its grades are fetched from https://" in result.stdout
    assert secret not in result.output
    assert len(rows(SourceSecret)) == 1


def test_add_without_secret(
    receiver: Callable[..., Result], rows: Callable[..., list[SourceSecret]]
) -> None:
    added = receiver("sources", "add", "one", "--url", URL)
    later = receiver("sources", "add-secret", "one", stdin=Secret.generate().reveal())

    assert (added.exit_code, later.exit_code) == (0, 0)
    assert "`receiver sources add-secret one`. Until then its webhooks are refused" in added.stdout
    assert later.stdout == "The secret 1 is added; one has 1 now.\n"
    assert len(rows(SourceSecret)) == 1


def test_add_of_a_moodle_explains_its_webhooks(receiver: Callable[..., Result]) -> None:
    added = receiver("sources", "add", "one", "--url", URL, "--kind", "moodle")

    assert "/webhooks/one at the notifier of that Moodle, if it has one" in added.stdout


def test_remove_secret(receiver: Callable[..., Result], make_source: Callable[..., Source]) -> None:
    make_source("one", secrets=(Secret.generate(), Secret.generate()))

    first = receiver("sources", "remove-secret", "one", "1")
    last = receiver("sources", "remove-secret", "one", "2")
    gone = receiver("sources", "remove-secret", "one", "2")

    assert first.stdout == "The secret 1 is removed; one has 1 left.\n"
    assert "Its webhooks are refused until" in last.stdout
    assert (gone.exit_code, "the source one has no secret 2" in gone.stderr) == (1, True)


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        pytest.param("", "no secret was entered", id="nothing"),
        pytest.param("whsec_planted", "a webhook secret", id="no secret"),
    ],
)
def test_invalid_secret_is_refused_and_not_shown(
    receiver: Callable[..., Result], make_source: Callable[..., Source], stdin: str, message: str
) -> None:
    make_source("one")

    result = receiver("sources", "add-secret", "one", stdin=stdin)

    assert result.exit_code == 1
    assert message in result.stderr
    assert "planted" not in result.output


def test_list_shows_ids_and_no_secrets(
    receiver: Callable[..., Result], make_source: Callable[..., Source]
) -> None:
    secret = Secret.generate()
    empty = receiver("sources", "list")
    make_source("one", URL, (secret,))

    table, listed = receiver("sources", "list"), receiver("sources", "list", "--json")

    assert empty.stdout.startswith("No sources. Add eAssessment with")
    assert "/webhooks/one" in table.stdout
    (source,) = json.loads(listed.stdout)
    assert (source["source"], source["url"], source["kind"]) == ("one", URL, "api")
    assert [each["secret_id"] for each in source["secrets"]] == [1]
    assert secret.reveal() not in table.output + listed.output


SITE_TOKEN = "0123456789abcdef" * 2


def test_set_site_token(receiver: Callable[..., Result]) -> None:
    receiver("sources", "add", "m", "--url", URL, "--kind", "moodle")
    before = receiver("sources", "list", "--json")

    entered = receiver("sources", "set-site-token", "m", stdin=f"{SITE_TOKEN}\n")

    table, listed = receiver("sources", "list"), receiver("sources", "list", "--json")
    assert (entered.exit_code, entered.stderr) == (0, "")
    assert "The site-wide token of m is stored" in entered.stdout
    assert json.loads(before.stdout)[0]["site_token_set"] is False
    (source,) = json.loads(listed.stdout)
    assert (source["kind"], source["site_token_set"]) == ("moodle", True)
    assert "moodle" in table.stdout
    assert "set" in table.stdout
    assert SITE_TOKEN not in entered.output + table.output + listed.output


@pytest.mark.parametrize(
    ("kind", "stdin", "message"),
    [
        pytest.param("moodle", "", "a Moodle token is 32", id="nothing"),
        pytest.param("moodle", "planted!", "a Moodle token is 32", id="no token"),
        pytest.param("api", SITE_TOKEN, "is not a Moodle", id="another kind of source"),
    ],
)
def test_invalid_site_token_is_refused(
    receiver: Callable[..., Result], kind: str, stdin: str, message: str
) -> None:
    receiver("sources", "add", "one", "--url", URL, "--kind", kind)

    result = receiver("sources", "set-site-token", "one", stdin=stdin)

    assert result.exit_code == 1
    assert message in result.stderr
    assert "planted" not in result.output
