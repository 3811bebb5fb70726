"""`receiver grades forget`."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from contract.grades import Score
from receiver.gradebook import database as gradebook
from receiver.models import StoredScore
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import Store

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
both_databases = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"])


@pytest.fixture(autouse=True)
def grades(store: Store) -> None:
    """Grades of two people in two courses, which the next sync takes for unchanged."""
    for course_id in ("CS101", "CS102"):
        entry = store.add_course(course_id)
        store.update(entry, etag='"1"')
        scores = [
            Score(user_id=one, score_given=Decimal(7), score_maximum=Decimal(10), timestamp=NOW)
            for one in ("ada", "eve")
        ]
        with store.database.writing() as session:
            gradebook.write(session, {entry.id: scores})


@both_databases
@pytest.mark.parametrize(
    ("words", "printed", "left"),
    [
        pytest.param(
            ["--course", "CS101"],
            "deleted 2 grades in 1 course\n",
            [("CS102", "ada"), ("CS102", "eve")],
            id="course",
        ),
        pytest.param(
            ["--user", "ada"],
            "deleted 2 grades in 2 courses\n",
            [("CS101", "eve"), ("CS102", "eve")],
            id="user",
        ),
        pytest.param(
            ["--course", "CS101", "--user", "ada", "--source", "one"],
            "deleted 1 grade in 1 course\n",
            [("CS101", "eve"), ("CS102", "ada"), ("CS102", "eve")],
            id="user in a course",
        ),
        pytest.param(
            ["--source", "one", "--user", "ada"],
            "deleted 2 grades in 2 courses\n",
            [("CS101", "eve"), ("CS102", "eve")],
            id="user in a source",
        ),
    ],
)
def test_grades_are_forgotten(
    receiver: Receiver,
    store: Store,
    words: list[str],
    printed: str,
    left: list[tuple[str, str]],
) -> None:
    result = receiver("grades", "forget", *words)

    names = {store.entry(course_id).id: course_id for course_id in ("CS101", "CS102")}
    assert (result.exit_code, result.stdout) == (0, printed)
    assert sorted((names[row.entry_id], row.user_id) for row in store.rows(StoredScore)) == left


def test_course_whose_grades_were_forgotten_is_fetched_again(
    receiver: Receiver, store: Store
) -> None:
    receiver("grades", "forget", "--course", "CS101")

    assert (store.entry("CS101").etag, store.entry("CS102").etag) == (None, '"1"')


def test_grades_in_a_moodle_are_named(receiver: Receiver, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RECEIVER_GRADEBOOK_URL", "https://elms.example.ac.uk")
    environment.setenv("RECEIVER_GRADEBOOK_TOKEN", "0123456789abcdef" * 2)

    result = receiver("grades", "forget", "--user", "ada")

    assert "Grades in ELMS's Moodle are not deleted" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        pytest.param(["--course", "CS999"], 1, "'CS999' of one is not in", id="unknown course"),
        pytest.param([], 2, "give --course, --source, or --user", id="nothing"),
        pytest.param(["--source", "two"], 1, "there is no source 'two'", id="unknown source"),
    ],
)
def test_nothing_is_forgotten_by_mistake(
    receiver: Receiver, store: Store, words: list[str], code: int, error: str
) -> None:
    result = receiver("grades", "forget", *words)

    assert (result.exit_code, result.stdout) == (code, "")
    assert error in result.stderr
    assert len(store.rows(StoredScore)) == 4
