"""eAssessment's server, which also counts its SQL statements.

`python -m benchmarks.counting_server FOLDER [--without-batch]` writes the count to a file in the
folder. Without batches it responds like a site that has no batch route.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import click
from flask import Flask, Response, abort, request

from foundation import config
from foundation.web import server
from notifier import services
from notifier.app import create_app
from notifier.config import Settings

_COUNT = "*.statements"


def statements(folder: Path) -> int:
    """Return how many statements the servers of a folder have sent."""
    return sum(int(path.read_text()) for path in folder.glob(_COUNT))


def _counting(folder: Path, *, batch: bool) -> Callable[[], Flask]:
    def make() -> Flask:
        app = create_app()
        database = services.of(app).database
        path = folder / _COUNT.replace("*", str(os.getpid()))
        writing = threading.Lock()

        def write_count(response: Response) -> Response:
            with writing:  # an older count must not replace a newer one
                path.write_text(str(database.statements))
            return response

        app.after_request(write_count)
        if not batch:
            app.before_request(_refuse_batch)
        return app

    return make


def _refuse_batch() -> None:
    if request.endpoint == "api.read_batch":
        abort(404)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--without-batch", is_flag=True, help="Have no batch route.")
def main(folder: Path, without_batch: bool) -> None:
    """Serve until stopped."""
    app = _counting(folder, batch=not without_batch)()
    server.serve(app, config.load(Settings), max_body_bytes=17 * 1024 * 1024)


if __name__ == "__main__":
    main()
