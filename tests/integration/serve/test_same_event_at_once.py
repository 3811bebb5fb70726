"""One event, many times at once, to a real ELMS: it counts once."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from contract import signatures
from contract.signatures import Secret
from foundation.db.migrations import Schema
from receiver.models import SCHEMA
from tests.integration.services import SITE, Answer, add_source, head, serve

TIMES = 100


def test_the_same_event_a_hundred_times_at_once_has_one_effect(
    make_database_url: Callable[[Schema], str], tmp_path: Path, secret: Secret
) -> None:
    """Over two processes of several threads one is applied, 99 are duplicates (F19)."""
    url = make_database_url(SCHEMA)
    add_source(url, secret)
    data = {"source": SITE, "course_id": "CS101", "course_version": 4}
    event = {"type": "course.deleted", "timestamp": "2026-11-22T08:59:59Z", "data": data}
    body = json.dumps(event).encode()
    signed = signatures.sign([secret], "msg_once", body, now=datetime.now(UTC))
    kind = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    whole = head(headers={**signed, **kind}) + body
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    both = [serve("receiver", SCHEMA, url, folder, WEB_THREADS="6") for folder in folders]
    together = threading.Barrier(TIMES)

    def send(number: int) -> Answer:
        together.wait(30)
        return both[number % 2].ask(whole)

    try:
        with ThreadPoolExecutor(TIMES) as senders:
            answers = list(senders.map(send, range(TIMES)))
        rows = both[0].rows()
    finally:
        for served in both:
            served.stop()

    assert Counter(answer.status for answer in answers) == {200: TIMES}
    outcomes = Counter(answer.document["outcome"] for answer in answers)
    assert outcomes == {"applied": 1, "duplicate": TIMES - 1}
    assert (len(rows["inbox"]), len(rows["entries"])) == (1, 1)
