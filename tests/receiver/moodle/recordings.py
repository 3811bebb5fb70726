"""Recorded responses of a Moodle 4.3 and, of one difference, 5.1; byte for byte."""

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
# From 5.0 on, Moodle does not say which record is missing.
RECORDED["record_missing"] = Recorded(
    200,
    "application/json",
    b'{"exception":"dml_missing_record_exception","errorcode":"invalidrecordunknown",'
    b'"message":"Can\'t find data record in database."}',
)


def failure(**keys: Any) -> bytes:
    """Return a failure's body as Moodle writes it, with these keys."""
    return json.dumps(keys, separators=(",", ":")).encode()
