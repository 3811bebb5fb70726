"""Two hosts with a network of their own, and a link to this one that can be cut.

They are network namespaces of Linux and need root and iproute2. Each has its own loopback
interface, and reaches the database here through a forwarder at the other end of its link.
"""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import make_url

from benchmarks.minimal_inbox import free_port
from demo.processes import Machines, ProcessError

_IP = shutil.which("ip")
# How often, and how long apart, a new forwarder is tried.
_TRIES, _PAUSE_SECONDS = 200, 0.1
_NETWORK = "10.213.{number}.{host}"


@dataclass(frozen=True)
class Host:
    """A namespace, and the interface here that its link ends at."""

    name: str
    link: str
    address: str

    def command(self, *words: str) -> list[str]:
        """Return a command that runs on the host."""
        return [str(_IP), "netns", "exec", self.name, *words]

    def cut_off(self) -> None:
        """Cut the link: packets are lost without an error on either side."""
        _ip("link", "set", self.link, "down")

    def connect(self) -> None:
        """Restore the link."""
        _ip("link", "set", self.link, "up")

    def url_of(self, database_url: str, port: int) -> str:
        """Return the URL of a database here as the host reaches it."""
        url = make_url(database_url).set(host=self.address, port=port)
        return url.render_as_string(hide_password=False)


def why_not() -> str:
    """Return why there can be no hosts, or nothing."""
    if _IP is None:
        return "iproute2 is not installed"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    return ""


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Make hosts, and remove them at the end."""
    mark = secrets.token_hex(3)
    made = [
        Host(f"bench-{mark}-{number}", f"b{mark}{number}", _NETWORK.format(number=number, host=1))
        for number in range(count)
    ]
    try:
        for number, host in enumerate(made):
            inside = ("ip", "-n", host.name)[1:]
            _ip("netns", "add", host.name)
            _ip("link", "add", host.link, "type", "veth", "peer", "eth0", "netns", host.name)
            _ip("address", "add", f"{host.address}/30", "dev", host.link)
            _ip(*inside, "address", "add", _NETWORK.format(number=number, host=2) + "/30",
                "dev", "eth0")  # fmt: skip
            for interface in ("lo", "eth0"):
                _ip(*inside, "link", "set", interface, "up")
            host.connect()
        yield made
    finally:
        for host in made:
            _ip("netns", "delete", host.name, check=False)


@contextmanager
def forwarded(machines: Machines, host: Host, database_url: str) -> Iterator[str]:
    """Forward a port at the host's link to the database; yield the URL for the host."""
    port = free_port()
    server = make_url(database_url)
    name = f"forwarder-{host.name}"
    machines.start(
        name, "python", "-m", "benchmarks.hosts",
        host.address, str(port), str(server.host), str(server.port or 5432),
    )  # fmt: skip
    for _ in range(_TRIES):
        with suppress(OSError):
            socket.create_connection((host.address, port)).close()
            break
        time.sleep(_PAUSE_SECONDS)
    yield host.url_of(database_url, port)
    machines.stop(name)


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run([str(_IP), *words], capture_output=True, text=True)
    if check and done.returncode:
        raise ProcessError(f"`ip {' '.join(words)}`: {done.stderr.strip()}")


async def _forward(address: str, port: int, to_host: str, to_port: int) -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(to_host, to_port)
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_forward(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
