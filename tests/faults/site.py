"""Both services, set up on databases of their own, with the observer between them."""

import base64
import json
import secrets
import shutil
import signal
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
from tests.faults.failpoints import Fault
from tests.faults.observer import Observer, observing
from tests.faults.processes import PATIENCE, Process, Zygote, wait_until
from tests.integration.services import free_port

SOURCE = "eassessment"
DOOR = f"/webhooks/{SOURCE}"
PLAIN = "/plain"
PATHS = (DOOR, PLAIN)
"""The two endpoints: ELMS's door behind the observer, and the observer alone."""

LEASE_SECONDS = 2.0
_DEADLINE_SECONDS = 1.5
_MARGIN_SECONDS = 0.25
WAIT_SECONDS = 0.2
SHORTENED = WAIT_SECONDS, _MARGIN_SECONDS
"""What `failpoints.shorten` is given: each wait of the retry schedule, a lease's least margin."""


class CommandError(AssertionError):
    """A command did not end well; holds its exit code and says what it logged."""

    def __init__(self, detail: str, code: int) -> None:
        super().__init__(detail)
        self.code = code


@dataclass
class Site:
    """eAssessment and ELMS in one folder: their processes, their databases, what passes between."""

    notifier: Database
    receiver: Database
    zygote: Zygote
    observer: Observer
    vault: Vault
    folder: Path
    environment: Mapping[str, str]
    wait: float
    started: list[Process] = field(default_factory=list)

    def start(
        self, *words: str, fault: Fault | None = None, more: Mapping[str, str] | None = None
    ) -> Process:
        """Start a command with what shall befall it; `more` are variables of its own."""
        process = self.zygote.start(
            *words,
            folder=self.folder / f"{len(self.started):05d}-{words[0]}-{words[1]}",
            environment={**self.environment, **(more or {})},
            shortened=(self.wait, _MARGIN_SECONDS),
            fault=fault,
        )
        self.started.append(process)
        return process

    def run(self, *words: str) -> str:
        """Run a command to its good end and return what it printed, or raise CommandError."""
        process = self.start(*words)
        code = process.wait_ended()
        if code != 0:
            raise CommandError(f"{process} ended with {code}: {process.logged()}", code)
        return process.printed()

    def open_door(self) -> Process:
        """Start ELMS's door, behind the observer, and return it once it answers."""
        door, self.observer.doors[DOOR] = self.serve("receiver")
        return door

    def serve(self, service: str) -> tuple[Process, int]:
        """Start a service's web server; return it with its port once it answers."""
        port = free_port()
        server = self.start(service, "serve", more={f"{service.upper()}_PORT": str(port)})
        wait_until(lambda: server.ended or _answers(port), f"{server} answers")
        assert not server.ended, server.logged()
        return server, port

    def add_courses(self, *course_ids: str) -> None:
        """Add courses, of which no event tells."""
        with self.notifier.writing() as session:
            for course_id in course_ids:
                courses.add_course(session, course_id, "a course", now=datetime.now(UTC))

    def register(self, path: str) -> int:
        """Register a path of the observer as an endpoint; ELMS learns the secret of its door."""
        url = self.observer.url(path)
        added = json.loads(self.run("notifier", "endpoints", "add", url, "--json"))
        self._learn(path, added["secret"])
        return int(added["endpoint_id"])

    def rotate_secret(self, path: str, endpoint_id: int, overlap: str) -> None:
        """Rotate the secret of an endpoint; whoever verifies learns the new one meanwhile."""
        words = "rotate-secret", str(endpoint_id), "--overlap", overlap, "--json"
        self._learn(path, json.loads(self.run("notifier", "endpoints", *words))["secret"])

    def _learn(self, path: str, secret: str) -> None:
        self.observer.secrets[path].append(secret)
        if path == DOOR:
            self.trust(Secret.parse(secret))

    def trust(self, secret: Secret) -> None:
        """Enter a secret at ELMS, beside those that it has."""
        with self.receiver.writing() as session:
            source = sources.get(session, SOURCE)
            sources.add_secret(session, source, secret, vault=self.vault, now=datetime.now(UTC))

    def stop(self, process: Process) -> int:
        """Stop a process as an operator would, and return its exit code."""
        process.send(signal.SIGCONT)
        process.send(signal.SIGTERM)
        return process.wait_ended()

    def forget(self, process: Process) -> None:
        """Take away the folder of a process that has ended well."""
        shutil.rmtree(process.folder)

    def end_all(self) -> None:
        """Kill whatever has not ended."""
        living = [process for process in self.started if not process.ended]
        for process in living:
            process.send(signal.SIGKILL)
        for process in living:
            process.wait_ended()


@contextmanager
def site(
    zygote: Zygote,
    folder: Path,
    notifier_url: str,
    receiver_url: str,
    *,
    wait: float = WAIT_SECONDS,
) -> Iterator[Site]:
    """Set both services up on empty, migrated databases; everything is ended at the end.

    `wait` is how many seconds each wait of the retry schedule lasts here.
    """
    key = new_key()
    settings = environment(key, notifier_url, receiver_url)
    notifier = Database(notifier_url, info={"source": SOURCE})
    receiver = Database(receiver_url)
    with observing() as observer:
        vault = Vault(SecretStr(key))
        both = Site(notifier, receiver, zygote, observer, vault, folder, settings, wait)
        try:
            with receiver.writing() as session:
                sources.add(session, SOURCE, "http://127.0.0.1:9", now=datetime.now(UTC))
            yield both
        finally:
            both.end_all()
            notifier.dispose()
            receiver.dispose()


def new_key() -> str:
    """Return a key that seals secrets."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def environment(key: str, notifier_url: str, receiver_url: str) -> dict[str, str]:
    """Return the variables that set both services up."""
    return {
        "NOTIFIER_ADMIN_KEY": secrets.token_hex(32),
        "NOTIFIER_ENCRYPTION_KEYS": key,
        "NOTIFIER_DATABASE_URL": notifier_url,
        "NOTIFIER_SOURCE": SOURCE,
        "NOTIFIER_ALLOW_LOOPBACK": "true",
        "NOTIFIER_WORKER_THREADS": "4",
        "NOTIFIER_CONNECT_TIMEOUT": "1",
        "NOTIFIER_ATTEMPT_DEADLINE": str(_DEADLINE_SECONDS),
        "NOTIFIER_LEASE": str(LEASE_SECONDS),
        "NOTIFIER_POLL_INTERVAL": "0.02",
        "NOTIFIER_LOG_FORMAT": "json",
        "RECEIVER_ENCRYPTION_KEYS": key,
        "RECEIVER_DATABASE_URL": receiver_url,
        "RECEIVER_REQUEST_DEADLINE": str(_DEADLINE_SECONDS),
        "RECEIVER_SYNC_LEASE": str(LEASE_SECONDS),
        "RECEIVER_LOG_FORMAT": "json",
    }


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection), suppress(OSError, HTTPException):
        connection.request("GET", "/")
        return connection.getresponse().status == HTTPStatus.SEE_OTHER  # to the sign-in
    return False
