"""The services as real processes in one folder, on free loopback ports."""

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

_STARTS_WITHIN = 120.0
_STOPS_WITHIN = 20.0
_PREFIXES = ("NOTIFIER_", "RECEIVER_")
# The folder of our commands.
SCRIPTS = Path(sys.executable).parent


class ProcessError(RuntimeError):
    """A command or a server failed; the message has its output."""


@dataclass
class Machines:
    """The machines in one folder: eAssessment with its worker, and ELMS, each with its database.

    A Moodle with a notifier of its own can be added.
    """

    folder: Path
    environment: dict[str, str]
    eassessment_url: str
    elms_url: str
    moodle_url: str
    moodle_notifier_url: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    guardian: IO[str] | None = None

    def run(
        self,
        *command: str,
        stdin: str = "",
        expect: int | None = 0,
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command and return its output; an exit code other than `expect` is an error.

        With None any is expected. `where` overrides settings.
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
        if expect is not None and done.returncode != expect:
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
        """Start a server or worker, with a log file of its name.

        `at` is the URL of a server; it is an error if something else listens there.
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
                process_group=0,  # Ctrl-C must not reach it: we stop one after the other
            )
        self.running[name] = process
        self._notify_guardian("+", process)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop a process with a signal; return its exit code."""
        process = self.running.pop(name)
        process.send_signal(how)
        code = _end_of(process)
        self._notify_guardian("-", process)
        return code

    def wait(self, name: str, seconds: float) -> None:
        """Return once a process has ended on its own; raise ProcessError if it failed or hangs."""
        process = self.running[name]
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{name} has not ended within {seconds:g} s") from None
        del self.running[name]
        self._notify_guardian("-", process)
        if code:
            raise ProcessError(f"{name} ended with {code}:\n{self.log_of(name).read_text()}")

    def stop_all(self) -> None:
        """Stop all processes, newest first."""
        every = list(reversed(self.running.values()))
        self.running.clear()
        for process in every:
            process.terminate()
        for process in every:
            _end_of(process)

    def _notify_guardian(self, sign: str, process: subprocess.Popen[bytes]) -> None:
        if self.guardian is not None:
            print(f"{sign}{process.pid}", file=self.guardian, flush=True)

    def check_all_run(self) -> None:
        """Raise ProcessError if a server or worker has ended on its own."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise ProcessError(f"{name} ended on its own, with {process.returncode}")

    def keep_settings(self) -> None:
        """Write the settings to .env, so that commands can be run in the folder."""
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
        """Return once a server responds; raise ProcessError with its log if it does not."""
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
        raise ProcessError(f"{name} does not respond:\n{self.log_of(name).read_text()}")


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """Yield the machines of a folder; all processes are stopped at the end."""
    ports = _free_ports(4)
    eassessment, elms, moodle, moodle_notifier = (f"http://127.0.0.1:{port}" for port in ports)
    both = Machines(folder, _environment(*ports[:2]), eassessment, elms, moodle, moodle_notifier)
    with _guardian() as both.guardian:
        try:
            yield both
        finally:
            both.stop_all()


@contextmanager
def _guardian() -> Iterator[IO[str]]:
    """Start the guardian, which stops what is left running if we are killed; yield its input."""
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
    """Return an environment with new secrets, without settings of this shell."""
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
    """Return the exit code of a process that is stopping; kill it if it does not end in time."""
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
            f"{name} cannot listen at {url}, because something else does; "
            "run it again to use other ports"
        ) from None


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
