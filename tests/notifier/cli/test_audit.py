"""What the commands of eAssessment record in the audit table."""

from datetime import timedelta

from notifier.models import DeliveryStatus
from tests.notifier.cli.conftest import ReadJson, Run
from tests.notifier.conftest import NINE, Store, make_score

URL = "https://elms.example/webhooks/eassessment"


def test_commands_record_what_they_change(run: Run, read_json: ReadJson, store: Store) -> None:
    token_id = read_json("courses", "add", "CS101", "--title", "Databases")["token_id"]
    new_token_id = read_json("courses", "regenerate-token", "CS101")["token_id"]
    store.load({"CS101": [make_score(user_id="s1")]})
    for words in (
        ("courses", "announce-token", "7731", "--unknown", "--yes"),
        ("grades", "forget", "--user", "s1", "--yes"),
        ("endpoints", "add", URL),
        ("endpoints", "set-event-types", 1, "course.deleted"),
        ("endpoints", "set-token-claims", 1, "on"),
        ("endpoints", "correct-url", 1, f"{URL}/2"),
        ("endpoints", "rotate-secret", 1),
        ("endpoints", "disable", 1, "--reason", "moved"),
        ("endpoints", "enable", 1),
        ("courses", "delete", "CS101", "7731", "none"),
        ("db", "rotate-key"),
        ("db", "prune", "--older-than", "30d"),
    ):
        assert run(*words).exit_code == (1 if "none" in words else 0)

    entries = read_json("audit", "list")["entries"]

    assert {(one["channel"], one["address"]) for one in entries} == {("command", None)}
    changes = [(one["action"], one["object_id"], one["detail"]) for one in reversed(entries)]
    assert changes[:-1] == [
        ("course.add", "CS101", "Databases"),
        ("course.regenerate-token", "CS101", new_token_id),
        ("course.announce-token", "7731", ""),
        ("course.forget-grades", "CS101", "of one user"),
        ("endpoint.add", "1", URL),
        ("endpoint.set-event-types", "1", "course.deleted"),
        ("endpoint.set-token-claims", "1", "on"),
        ("endpoint.correct-url", "1", f"{URL}/2"),
        ("endpoint.rotate-secret", "1", ""),
        ("endpoint.disable", "1", "moved"),
        ("endpoint.enable", "1", ""),
        ("course.delete", "CS101", ""),
        ("course.delete", "7731", ""),
        ("database.rotate-key", "", "2 secrets and 0 tokens"),
    ]
    assert changes[-1][:2] == ("database.prune", "")
    assert token_id != new_token_id


def test_replay_is_recorded_once(run: Run, read_json: ReadJson, store: Store) -> None:
    endpoint_id = store.add_endpoint(URL).id
    dead = {"status": DeliveryStatus.DEAD, "settled_at": NINE + timedelta(hours=1)}
    one, *_ = (store.add_delivery(endpoint_id, **dead) for _ in range(3))

    run("deliveries", "replay", "--status", "dead", "--dry-run")
    run("deliveries", "replay", one)
    run("deliveries", "replay", "--status", "dead")
    run("deliveries", "replay", "--status", "dead")

    changes = [
        (entry["object_id"], entry["detail"]) for entry in read_json("audit", "list")["entries"]
    ]
    assert changes == [("", "2 deliveries"), (str(one), "")]


def test_course_shows_who_deleted_it(run: Run, read_json: ReadJson, store: Store) -> None:
    store.add_course("CS101")
    run("courses", "delete", "CS101", "--yes")

    [change] = read_json("courses", "show", "CS101")["changes"]

    assert (change["action"], change["channel"]) == ("course.delete", "command")
    assert "course.delete" in run("courses", "show", "CS101").stdout
    assert read_json("audit", "list", "--object", "CS101")["entries"] == [change]
