"""Both services on databases of their own, with the observer between them."""

import base64
import json
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pydantic import SecretStr

from contract.signatures import Secret
from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.courses import service as courses
from receiver.sources import store as sources
from tests.faults import processes
from tests.faults.failpoints import Fault
from tests.faults.observer import Observer, observing
from tests.faults.processes import PATIENCE, Process, wait_until

SOURCE = "eassessment"
# The two endpoints: ELMS behind the observer, and the observer alone.
ELMS = f"/webhooks/{SOURCE}"
PLAIN = "/plain"
PATHS = (ELMS, PLAIN)

# Seconds of each wait of the retry schedule.
WAIT_SECONDS = 0.2
# Settings of a site whose leases and deadlines end while a test waits.
SHORT = {
    "NOTIFIER_WORKER_THREADS": "4",
    "NOTIFIER_CONNECT_TIMEOUT": "1",
    "NOTIFIER_ATTEMPT_DEADLINE": "1.5",
    "NOTIFIER_LEASE": "2.5",
    "NOTIFIER_POLL_INTERVAL": "0.02",
    "RECEIVER_REQUEST_DEADLINE": "1.5",
    "RECEIVER_SYNC_LEASE": "2",
}
# Settings that outlast everything that a test does meanwhile, however busy the machine is.
PATIENT = {
    "NOTIFIER_ATTEMPT_DEADLINE": "60",
    "NOTIFIER_LEASE": "120",
    "NOTIFIER_DATABASE_TIMEOUT": "60",
    "RECEIVER_DATABASE_TIMEOUT": "60",
}


class CommandError(AssertionError):
    """A command failed; holds its exit code, and says what it logged."""

    def __init__(self, detail: str, code: int) -> None:
        super().__init__(detail)
        self.code = code


@dataclass
class Site:
    """eAssessment and ELMS: their processes, their databases, and what passes between them."""

    notifier: Database
    receiver: Database
    observer: Observer
    vault: Vault
    folder: Path
    environment: dict[str, str]
    wait: float | None
    started: list[Process] = field(default_factory=list)

    def start(
        self, *words: str, fault: Fault | None = None, more: Mapping[str, str] | None = None
    ) -> Process:
        """Start a command with the fault that it will meet; `more` are additional variables."""
        process = processes.start(
            *words,
            folder=self.folder / f"{len(self.started):05d}-{words[0]}-{words[1]}",
            environment={**self.environment, **(more or {})},
            wait=self.wait,
            fault=fault,
        )
        self.started.append(process)
        return process

    def run(self, *words: str) -> str:
        """Run a command and return what it printed; raise CommandError if it fails."""
        process = self.start(*words)
        code = process.wait_ended()
        if code != 0:
            raise CommandError(f"{process} ended with {code}: {process.logged()}", code)
        return process.printed()

    def serve_elms(self) -> Process:
        """Start ELMS behind the observer, and return it once it responds."""
        server, self.observer.servers[ELMS] = self.serve("receiver")
        return server

    def serve(self, service: str) -> tuple[Process, int]:
        """Start a service's web server; return it with its port once it responds."""
        port = free_port()
        server = self.start(service, "serve", more={f"{service.upper()}_PORT": str(port)})
        wait_until_served(server, port)
        return server, port

    def add_courses(self, *course_ids: str) -> None:
        with self.notifier.writing() as session:
            for course_id in course_ids:
                courses.add_course(session, course_id, "a course", now=datetime.now(UTC))

    def register(self, path: str) -> int:
        """Register a path of the observer as an endpoint; ELMS gets the secret of its own."""
        url = f"{self.observer.url}{path}"
        added = json.loads(self.run("notifier", "endpoints", "add", url, "--json"))
        self._add_secret(path, added["secret"])
        return int(added["endpoint_id"])

    def rotate_secret(self, path: str, endpoint_id: int, *how: str) -> None:
        words = "rotate-secret", str(endpoint_id), *how, "--json"
        self._add_secret(path, json.loads(self.run("notifier", "endpoints", *words))["secret"])

    def _add_secret(self, path: str, text: str) -> None:
        self.observer.secrets[path].append(text)
        if path == ELMS:
            now, secret = datetime.now(UTC), Secret.parse(text)
            with self.receiver.writing() as session:
                source = sources.get(session, SOURCE)
                sources.add_secret(session, source, secret, vault=self.vault, now=now)

    def stop(self, process: Process) -> int:
        """Stop a process as an operator does, and return its exit code."""
        process.send(signal.SIGCONT)
        process.send(signal.SIGTERM)
        return process.wait_ended()

    def forget(self, process: Process) -> None:
        """Delete the folder of a process that has ended."""
        shutil.rmtree(process.folder)

    def end_all(self) -> None:
        for process in self.started:
            process.send(signal.SIGKILL)
        for process in self.started:
            process.wait_ended()


@contextmanager
def site(
    folder: Path, notifier_url: str, receiver_url: str, *, short: bool = True
) -> Iterator[Site]:
    """Set both services up on empty, migrated databases; every process ends with the block.

    Their times are short, or those of an installation.
    """
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    notifier = Database(notifier_url, info={"source": SOURCE})
    receiver = Database(receiver_url)
    settings = environment(key, notifier_url, receiver_url) | (SHORT if short else {})
    wait = WAIT_SECONDS if short else None
    with observing() as observer:
        both = Site(notifier, receiver, observer, Vault(SecretStr(key)), folder, settings, wait)
        try:
            with receiver.writing() as session:
                sources.add(session, SOURCE, "http://127.0.0.1:9", now=datetime.now(UTC))
            yield both
        finally:
            both.end_all()
            notifier.dispose()
            receiver.dispose()


def environment(key: str, notifier_url: str, receiver_url: str) -> dict[str, str]:
    """Return the settings of both services."""
    return {
        "NOTIFIER_ADMIN_KEY": secrets.token_hex(32),
        "NOTIFIER_ENCRYPTION_KEYS": key,
        "NOTIFIER_DATABASE_URL": notifier_url,
        "NOTIFIER_SOURCE": SOURCE,
        "NOTIFIER_ALLOW_LOOPBACK": "true",
        "NOTIFIER_LOG_FORMAT": "json",
        "RECEIVER_ENCRYPTION_KEYS": key,
        "RECEIVER_DATABASE_URL": receiver_url,
        "RECEIVER_LOG_FORMAT": "json",
    }


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_until_served(server: Process, port: int, host: str = "127.0.0.1") -> None:
    """Return once a web server responds; fail if it has ended."""

    def responds() -> bool:
        connection = HTTPConnection(host, port, timeout=PATIENCE)
        with closing(connection), suppress(OSError, HTTPException):
            connection.request("GET", "/")
            return connection.getresponse().status == HTTPStatus.SEE_OTHER  # to the sign-in
        return False

    wait_until(lambda: server.code is not None or responds(), f"{server} responds")
    assert server.code is None, server.logged()
