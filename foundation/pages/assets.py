"""The style sheet, script and icon; their URLs contain a hash of their content."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from flask import Blueprint, Response, abort, url_for

from foundation.web.app import guarded

assets = Blueprint("assets", __name__)

_KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """A static file, with its media type and the hash in its URL."""

    content: bytes
    kind: str
    version: str


@cache
def _every() -> dict[str, Asset]:
    return {
        path.name: Asset(
            content := path.read_bytes(),
            _KINDS[path.name.rpartition(".")[2]],
            hashlib.sha256(content).hexdigest()[:16],
        )
        for path in (files("foundation.pages") / "static").iterdir()
    }


def url_of(name: str) -> str:
    """Return the URL of a file."""
    return url_for("assets.serve", version=_every()[name].version, name=name)


@assets.get("/assets/<version>/<name>")
@guarded("anybody")
def serve(version: str, name: str) -> Response:
    """Serve a file; its content never changes under the same URL."""
    asset = _every().get(name)
    if asset is None or asset.version != version:
        abort(404)
    response = Response(asset.content, content_type=asset.kind)
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response
