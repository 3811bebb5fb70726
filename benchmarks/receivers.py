"""The receiver of a benchmark, which answers 204, at once or after a delay, and its log."""

import resource
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.minimal_inbox import free_port
from demo.processes import Machines, ProcessError

# Both receivers write their log this often; longer than that after the last request.
_FLUSHED_SECONDS = 0.3
_POLL_SECONDS = 0.02
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  log_format webhooks '$msec $uri $http_webhook_id';
  access_log {log} webhooks buffer=64k flush=100ms if=$http_webhook_id;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    {locations}
  }}
}}
"""
_AT_ONCE = "location / { return 204; }"
# Nginx delays nothing but a refused sign-in; what it would answer then is replaced.
_DELAYED = """
    location / {{
      auth_basic delayed;
      auth_basic_user_file none;
      auth_delay {delay_ms}ms;
      error_page 401 =204 @delayed;
    }}
    location @delayed {{ auth_basic off; return 204; }}
"""


@dataclass(frozen=True)
class Requests:
    """What a receiver got: when each webhook came first, and how often.

    A webhook to several endpoints counts once for each path; `last` is when the last request came.
    """

    at: Mapping[tuple[str, str], float]
    times: Counter[tuple[str, str]]
    last: float

    @property
    def rate(self) -> float:
        """Different webhooks per second."""
        return len(self.times) / max(self.last - min(self.at.values()), 1e-3)

    @property
    def repeated(self) -> int:
        """The number of webhooks that came more than once."""
        return sum(count > 1 for count in self.times.values())


@dataclass
class Receiver:
    """A receiver that runs; its CPU time is known once it has ended."""

    url: str
    log: Path
    cpu: float = 0.0
    _counted: int = field(default=0, init=False)
    _position: int = field(default=0, init=False)

    def count(self) -> int:
        """Return the number of requests that are in the log."""
        with self.log.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        self._counted += new.count(b"\n")
        return self._counted

    def wait_for(self, count: int, seconds: float) -> None:
        """Return once there are at least `count` requests in the log."""
        ends = time.monotonic() + seconds
        while self.count() < count:
            if time.monotonic() > ends:
                raise ProcessError(f"only {self._counted} of {count} requests in {seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def requests(self) -> Requests:
        """Return what is in the log."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        if not lines:
            raise ProcessError("the receiver got no request")
        at: dict[tuple[str, str], float] = {}
        for seconds, path, webhook_id in lines:
            at.setdefault((path, webhook_id), float(seconds))
        times = Counter((path, webhook_id) for _, path, webhook_id in lines)
        return Requests(at, times, max(float(seconds) for seconds, *_ in lines))


def command(folder: Path, port: int, log: Path, delay_ms: int) -> list[str]:
    """Return the command of a receiver: nginx, or without it one in Python."""
    nginx = shutil.which("nginx")
    if nginx is None:
        return [
            "python", "-m", "benchmarks.python_receiver", str(port), str(log),
            "--delay-ms", str(delay_ms),
        ]  # fmt: skip
    folder.mkdir()
    config = folder / "nginx.conf"
    locations = _DELAYED.format(delay_ms=delay_ms) if delay_ms else _AT_ONCE
    config.write_text(_NGINX.format(folder=folder, log=log, port=port, locations=locations))
    return [nginx, "-e", str(folder / "error.log"), "-c", str(config)]


@contextmanager
def receiving(machines: Machines, delay_ms: int) -> Iterator[Receiver]:
    """Run a receiver."""
    port = free_port()
    name = f"receiver-{port}"
    log = machines.folder / f"{name}.requests"
    machines.start(name, *command(machines.folder / name, port, log, delay_ms))
    receiver = Receiver(f"http://127.0.0.1:{port}", log)
    machines.wait_until_answers(name, receiver.url)
    yield receiver
    time.sleep(_FLUSHED_SECONDS)
    before = cpu_of_children()
    machines.stop(name)
    receiver.cpu = cpu_of_children() - before


def cpu_of_children() -> float:
    """Return the CPU seconds of all children of this process that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
