"""Commands that are used wrongly: they exit with 2 before anything is opened."""

import pytest

from tests.notifier.cli.conftest import Run

URL = "https://elms.example/webhooks/eassessment"


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        pytest.param("courses add", ("..", "--title", "x"), "a course id must not", id="course"),
        pytest.param("courses add", ("7", "--title", ""), "0 characters; expected 1", id="title"),
        pytest.param("courses add", ("7", "--title", "\udce9"), "is not UTF-8", id="encoding"),
        pytest.param("courses delete", (), "give at least one COURSE_ID", id="no course"),
        pytest.param(
            "courses list", ("--limit", "0"), "not a whole number from 1 to 10,000", id="limit"
        ),
        pytest.param(
            "courses announce-token",
            ("7", "--unknown", "--token-id", "m" + "0" * 16),
            "give either",
            id="token id and unknown",
        ),
        pytest.param(
            "courses announce-token", ("7", "--token-id", "planted"), "16 hexadecimal", id="token"
        ),
        pytest.param("endpoints add", (URL, "--event-type", "x"), "is not one of", id="event type"),
        pytest.param("endpoints ping", ("0",), "not a whole number from 1", id="endpoint"),
        pytest.param(
            "endpoints rotate-secret", ("1", "--overlap", "1 day"), "not a duration", id="overlap"
        ),
        pytest.param(
            "endpoints rotate-secret", ("1", "--overlap", "1h", "--now"), "give either", id="now"
        ),
        pytest.param("deliveries replay", (), "give either DELIVERY_IDs or a filter", id="nothing"),
        pytest.param("deliveries replay", ("1", "--all", "--yes"), "give either", id="ids and all"),
        pytest.param("deliveries replay", ("--all",), "confirm with --yes", id="all"),
        pytest.param("deliveries list", ("--since", "soon"), "'soon' is not a time", id="time"),
        pytest.param(
            "deliveries list",
            ("--until", "2h", "--since", "1h"),
            "the period is empty",
            id="period",
        ),
        pytest.param(
            "audit list",
            ("--since", "1h", "--until", "2h"),
            "the period is empty",
            id="since first",
        ),
        pytest.param("grades import", ("-", "--maximum=7,5"), "'7,5' is not a number", id="points"),
        pytest.param("grades import", ("-", "--maximum=0"), "not a number above 0", id="zero"),
        pytest.param("db prune", ("--older-than", "29d"), "is too short; write 30d", id="age"),
    ],
)
def test_wrong_usage_exits_with_2(
    run_without_database: Run, command: str, arguments: tuple[str, ...], message: str
) -> None:
    result = run_without_database(*command.split(), *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "planted" not in result.output
