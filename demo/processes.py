"""The services as real processes: a folder, free loopback ports, commands, servers, clean-up."""

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

_STARTS_WITHIN = 20.0
_STOPS_WITHIN = 20.0
_PREFIXES = ("NOTIFIER_", "RECEIVER_")
SCRIPTS = Path(sys.executable).parent
"""Where our own commands are."""


class ProcessError(RuntimeError):
    """A command or a server did not do what the story needs; holds what it printed."""


@dataclass
class Machines:
    """The machines in one folder: eAssessment with its worker, and ELMS, each with its database.

    A Moodle can join them, and beside it a notifier of its own.
    """

    folder: Path
    environment: dict[str, str]
    eassessment_url: str
    elms_url: str
    moodle_url: str
    beside_moodle_url: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    guardian: IO[str] | None = None

    def run(
        self,
        *command: str,
        stdin: str = "",
        expect: int = 0,
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command to its end and return what it printed; any other exit code is an error.

        `where` are settings that differ from the machines' own.
        """
        done = subprocess.run(
            [SCRIPTS / command[0], *command[1:]],
            cwd=self.folder,
            env={**self.environment, **(where or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != expect:
            raise ProcessError(
                f"`{' '.join(command)}` ended with {done.returncode}, not {expect}:\n"
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout

    def start(
        self,
        name: str,
        *command: str,
        at: str | None = None,
        where: Mapping[str, str] | None = None,
    ) -> None:
        """Start a server or worker; its log goes to a file of its name.

        `at` is the address that a server will have; that somebody else has it is an error.
        """
        if at is not None:
            _check_free(name, at)
        with self.log_of(name).open("ab") as log:
            process = subprocess.Popen(
                [SCRIPTS / command[0], *command[1:]],
                cwd=self.folder,
                env={**self.environment, **(where or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for us, who stop one after the other
            )
        self.running[name] = process
        self._tell_guardian("+", process)

    def stop(self, name: str) -> int:
        """Stop a process as an operator would, with SIGTERM; return its exit code."""
        process = self.running.pop(name)
        process.terminate()
        code = _end_of(process)
        self._tell_guardian("-", process)
        return code

    def stop_all(self) -> None:
        """Stop whatever runs, the newest first, and return when nothing does."""
        every = list(reversed(self.running.values()))
        self.running.clear()
        for process in every:
            process.terminate()
        for process in every:
            _end_of(process)

    def _tell_guardian(self, sign: str, process: subprocess.Popen[bytes]) -> None:
        if self.guardian is not None:
            print(f"{sign}{process.pid}", file=self.guardian, flush=True)

    def check_all_run(self) -> None:
        """Raise ProcessError if a server or worker has ended by itself."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise ProcessError(f"{name} ended by itself, with {process.returncode}")

    def keep_settings(self) -> None:
        """Write the machines' settings down, so that commands work in their folder as they are."""
        ours = (
            f"{name}={value}\n"
            for name, value in self.environment.items()
            if name.startswith(_PREFIXES)
        )
        file = self.folder / ".env"
        file.touch(mode=0o600)
        file.write_text("".join(ours), encoding="utf-8")

    def log_of(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.folder / f"{name}.log"

    def wait_until_answers(self, name: str, url: str) -> None:
        """Return once a server answers anything; raise with its log if it ends before that."""
        ends = time.monotonic() + _STARTS_WITHIN
        while time.monotonic() < ends:
            if self.running[name].poll() is not None:
                break
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own http address
                    return
            except urllib.error.HTTPError as answered:
                answered.close()
                return
            except OSError:
                time.sleep(0.05)
        raise ProcessError(f"{name} does not answer:\n{self.log_of(name).read_text()}")


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """Set up both machines in a folder; whatever was started is stopped at the end."""
    ports = _free_ports(4)
    eassessment, elms, moodle, beside_moodle = (f"http://127.0.0.1:{port}" for port in ports)
    both = Machines(folder, _environment(*ports[:2]), eassessment, elms, moodle, beside_moodle)
    with _guardian() as both.guardian:
        try:
            yield both
        finally:
            both.stop_all()


@contextmanager
def _guardian() -> Iterator[IO[str]]:
    """Let a process of its own end what is left running if this one is killed; return its ear."""
    guardian = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("guardian.py")],
        stdin=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert guardian.stdin is not None  # noqa: S101 - it is a pipe
    try:
        yield guardian.stdin
    finally:
        guardian.kill()
        guardian.wait()
        guardian.stdin.close()


def _environment(notifier_port: int, receiver_port: int) -> dict[str, str]:
    """Return an environment with fresh secrets and none of this shell's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    return kept | {
        "NOTIFIER_ENCRYPTION_KEYS": _key(),
        "NOTIFIER_ADMIN_KEY": secrets.token_hex(32),
        "NOTIFIER_PORT": str(notifier_port),
        "NOTIFIER_ALLOW_LOOPBACK": "true",
        "NOTIFIER_LOG_LEVEL": "DEBUG",
        "RECEIVER_ENCRYPTION_KEYS": _key(),
        "RECEIVER_PORT": str(receiver_port),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "110",
    }


def _end_of(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process that was told to stop, and kill it if it does not."""
    try:
        return process.wait(_STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _check_free(name: str, url: str) -> None:
    address = urlsplit(url)
    try:
        socket.create_server((address.hostname, address.port)).close()
    except OSError:
        raise ProcessError(
            f"{name} cannot be served at {url}, where something else listens; "
            "run it again, and it takes other ports"
        ) from None


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
