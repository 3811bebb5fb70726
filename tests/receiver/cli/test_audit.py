"""What the commands of ELMS record in the audit table."""

import json

from contract.signatures import Secret
from foundation.db.audit import AuditEntry
from tests.receiver.cli.conftest import Receiver, new_token
from tests.receiver.conftest import Store

SITE_TOKEN = "0123456789abcdef" * 2
EASSESSMENT = ("--source", "one")
ACTIVITY = ("--course", "4", "--activity", "7")


def test_commands_record_what_they_change(receiver: Receiver, store: Store) -> None:
    token = new_token()
    rows = f"course_id,token,source\nCS102,{new_token()},one\nCS101,{token},one\n"
    for words, stdin in (
        (("sources", "add", "one", "--url", "https://one.example"), Secret.generate().reveal()),
        (("sources", "add", "two", "--url", "https://two.example", "--kind", "moodle"), ""),
        (("sources", "add-secret", "one"), Secret.generate().reveal()),
        (("sources", "remove-secret", "one", "1"), ""),
        (("sources", "set-site-token", "two"), SITE_TOKEN),
        (("registry", "add", "CS101", *EASSESSMENT), new_token()),
        (("registry", "set-token", "CS101", *EASSESSMENT), token),
        (("registry", "import", "-"), rows),
        (
            ("registry", "set-activity", "CS101", *EASSESSMENT, *ACTIVITY),
            "",
        ),
        (("registry", "remove", "CS101", *EASSESSMENT), ""),
        (("registry", "remove", "--status", "active", "--yes"), ""),
        (("runs", "pause"), ""),
        (("runs", "resume"), ""),
        (("grades", "forget", "--user", "ada", "--yes"), ""),
        (("db", "rotate-key"), ""),
        (("db", "prune", "--older-than", "30d", "--audit-older-than", "30d"), ""),
    ):
        result = receiver(*words, stdin=stdin)
        assert result.exit_code == 0, result.output

    entries = json.loads(receiver("audit", "list", "--json").stdout)["entries"]

    assert {(one["channel"], one["address"]) for one in entries} == {("command", None)}
    assert [(one["action"], one["object_id"], one["detail"]) for one in reversed(entries)] == [
        ("source.add", "one", "https://one.example"),
        ("source.add", "two", "https://two.example"),
        ("source.add-secret", "one", "secret 2"),
        ("source.remove-secret", "one", "secret 1"),
        ("source.set-site-token", "two", ""),
        ("entry.add", "CS101", "one"),
        ("entry.set-token", "CS101", "one"),
        ("entry.add", "CS102", "one"),
        ("entry.set-activity", "CS101", "one: 4/7"),
        ("entry.remove", "CS101", "one"),
        ("entry.remove", "CS102", "one"),
        ("sync.pause", "", ""),
        ("sync.resume", "", ""),
        ("entry.forget-grades", "", "0 grades in 0 courses of one user"),
        ("database.rotate-key", "", "2 secrets and 0 tokens"),
        (
            "database.prune",
            "",
            "deleted 0 runs, 0 lines of history, 0 webhook ids, 0 grades of deleted courses, "
            "0 audit entries",
        ),
    ]
    assert len(store.rows(AuditEntry)) == len(entries)
