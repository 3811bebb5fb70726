"""`receiver sync-grades` that is stopped gives its lease back."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from click.testing import Result

from contract.signature import Secret
from contract.tokens import CourseToken

COMMAND = "from receiver.cli import main; main()"


def test_a_stopped_sync_frees_its_lease(
    receiver: Callable[..., Result], database_kind: str
) -> None:
    """After SIGTERM during a request the next sync need not wait for the lease to end."""
    asked, answer = threading.Event(), threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Say that somebody asks, and let them wait."""
            asked.set()
            answer.wait(30)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    far_side = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=far_side.serve_forever).start()
    receiver("db", "upgrade")
    url = f"http://127.0.0.1:{far_side.server_port}"
    receiver("sources", "add", "eassessment", "--url", url, stdin=Secret.generate().reveal())
    receiver("registry", "add", "CS101", stdin=CourseToken.generate().reveal())
    with subprocess.Popen([sys.executable, "-c", COMMAND, "sync-grades"]) as process:
        reached = asked.wait(30)
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    answer.set()
    far_side.shutdown()
    far_side.server_close()

    again = receiver("sync-grades")

    assert reached
    assert code == 128 + signal.SIGTERM
    assert again.exit_code != 3
