"""Recorded responses of a Moodle 4.3, byte for byte."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Recorded:
    """One response: its status, content type, body, and other headers."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


RECORDED = {
    name: Recorded(answer["status"], answer["content_type"], answer["body"].encode())
    for name, answer in json.loads(
        Path(__file__).with_name("answers.json").read_text(encoding="utf-8")
    ).items()
}


def failure(**keys: Any) -> bytes:
    """Return a failure's body as Moodle writes it, with these keys."""
    return json.dumps(keys, separators=(",", ":")).encode()
