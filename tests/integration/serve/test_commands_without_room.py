"""Commands that find no room, a taken port or a full disk: a sentence and a code, no trace."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER
from receiver.models import SCHEMA as RECEIVER
from tests.integration.services import command, copied, environment

SERVICES = [
    pytest.param("notifier", NOTIFIER, id="notifier"),
    pytest.param("receiver", RECEIVER, id="receiver"),
]


@pytest.fixture
def settings(
    sqlite_templates: Callable[[Schema], Path], tmp_path: Path
) -> Callable[..., dict[str, str]]:
    """Return what makes the environment of a service on an empty database."""

    def make(service: str, schema: Schema, **given: str) -> dict[str, str]:
        url = copied(sqlite_templates(schema), tmp_path)
        return environment(service, url, **given)

    return make


@pytest.mark.parametrize(("service", "schema"), SERVICES)
def test_a_taken_port_is_one_sentence_at_once(
    settings: Callable[..., dict[str, str]], tmp_path: Path, service: str, schema: Schema
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = command(
            service, "serve", cwd=tmp_path, env=settings(service, schema, PORT=str(port))
        )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        f" next: Stop the program that uses this address, or set {service.upper()}_HOST and "
        f"{service.upper()}_PORT to an address of this machine and a free port.\n"
    )


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_one_sentence(
    settings: Callable[..., dict[str, str]], tmp_path: Path, host: str
) -> None:
    given = settings("receiver", RECEIVER, HOST=host)

    done = command("receiver", "serve", cwd=tmp_path, env=given)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen on {host}:8002: ")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--help",), id="help"),
        pytest.param(("--version",), id="version"),
        pytest.param(("doctor",), id="table"),
        pytest.param(("doctor", "--json"), id="JSON"),
        pytest.param(("db", "check"), id="line"),
    ],
)
@pytest.mark.parametrize(("service", "schema"), SERVICES)
def test_output_that_finds_no_room_is_a_sentence(
    settings: Callable[..., dict[str, str]],
    tmp_path: Path,
    service: str,
    schema: Schema,
    words: tuple[str, ...],
) -> None:
    with Path("/dev/full").open("w") as full:
        done = command(service, *words, cwd=tmp_path, env=settings(service, schema), stdout=full)

    assert done.returncode == 1
    assert done.stderr == (
        "error: the system refused to read or write: No space left on device\n"
        " next: Make room or give the right, or write the output elsewhere, then try again.\n"
    )


@pytest.mark.parametrize(("service", "schema"), SERVICES)
def test_a_refusal_that_finds_no_room_is_an_exit_code(
    settings: Callable[..., dict[str, str]], tmp_path: Path, service: str, schema: Schema
) -> None:
    with Path("/dev/full").open("w") as full:
        done = command(
            service,
            "db",
            "check",
            cwd=tmp_path,
            env=settings(service, schema, ENCRYPTION_KEYS="short"),
            stdout=full,
            stderr=subprocess.STDOUT,
        )

    assert done.returncode in {1, 2}
