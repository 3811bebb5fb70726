"""A grade sync that cannot read its registry asks nobody, and says so with its exit code."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from click.testing import Result

from tests.faults.database.conftest import SCHEMAS, file_of, held, run_sql
from tests.faults.postgres_proxy import DISK_FULL, LOCKED, SHUTDOWN, Break, PostgresProxy, Says

RunCommand = Callable[[str, str], Result]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """An eAssessment that would let everybody in, and knows whether somebody came."""
    with closing(socket.create_server(("127.0.0.1", 0))) as there:
        there.setblocking(False)
        yield there


@pytest.fixture
def make_registry(
    make_filled_database: Callable[[str], str], listener: socket.socket
) -> Callable[[], str]:
    """Return what makes a registry with a course that would be asked for."""

    def make() -> str:
        url = make_filled_database("receiver")
        run_sql(url, f"UPDATE sources SET url = 'http://127.0.0.1:{listener.getsockname()[1]}'")
        return url

    return make


def nobody_came(listener: socket.socket) -> bool:
    """Tell whether no connection was opened; one that is not accepted yet counts as well."""
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def test_a_sync_that_has_its_registry_asks(
    make_registry: Callable[[], str],
    run_command: RunCommand,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RECEIVER_READ_TIMEOUT", "0.1")

    run_command("receiver sync-grades", make_registry())

    assert not nobody_came(listener)


def test_a_registry_that_is_held_costs_no_request(
    make_registry: Callable[[], str], run_command: RunCommand, listener: socket.socket
) -> None:
    url = make_registry()

    with held(url, SCHEMAS["receiver"]):
        result = run_command("receiver sync-grades", url)

    assert result.exit_code == 4
    assert "error: the database cannot be used: " in result.stderr
    assert nobody_came(listener)


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_registry_that_is_garbage_costs_no_request(
    make_registry: Callable[[], str], run_command: RunCommand, listener: socket.socket
) -> None:
    url = make_registry()
    file_of(url).write_bytes(b"once this was a database" * 100)

    result = run_command("receiver sync-grades", url)

    assert result.exit_code == 4
    assert "file is not a database" in result.stderr
    assert nobody_came(listener)


@pytest.mark.parametrize(
    ("words", "happens"),
    [
        pytest.param("FROM entries", Break.BEFORE, id="cut before it is read"),
        pytest.param("FROM entries", Break.IN_ANSWER, id="cut while it is read"),
        pytest.param("FROM entries", SHUTDOWN, id="shut down"),
        pytest.param("FROM entries", LOCKED, id="locked"),
        pytest.param("INSERT INTO runs", DISK_FULL, id="disk full"),
        pytest.param("COMMIT", Break.BEFORE, id="cut before COMMIT"),
        pytest.param("COMMIT", Break.AFTER, id="cut after COMMIT"),
    ],
)
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_registry_that_breaks_off_costs_no_request(
    make_registry: Callable[[], str],
    make_proxy: Callable[[str], PostgresProxy],
    run_command: RunCommand,
    listener: socket.socket,
    words: str,
    happens: Break | Says,
) -> None:
    proxy = make_proxy(make_registry())
    fault = proxy.on(words, happens)

    result = run_command("receiver sync-grades", proxy.url)

    assert fault.met.is_set()
    assert result.exit_code == 4
    assert "error: the database cannot be used: " in result.stderr
    assert nobody_came(listener)
