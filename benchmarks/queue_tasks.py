"""What a task of Celery or dramatiq does: send a webhook, with tuned or with plain requests."""

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import requests

from benchmarks.tuned_requests import TIMEOUT, Sender
from contract import signatures
from contract.signatures import Secret

_session = requests.Session()


def send_tuned(path: str, webhook_id: str, body: str) -> None:
    """Send a webhook as bare requests do."""
    _sender().send(path, webhook_id, body)


def send_plain(path: str, webhook_id: str, body: str) -> None:
    """Send a webhook with a session as it is, as the documentation of requests shows."""
    raw = body.encode()
    signed = signatures.sign([_secret()], webhook_id, raw, now=datetime.now(UTC))
    headers = {"Content-Type": "application/json", **signed}
    url = f"{os.environ['BENCHMARK_RECEIVER']}{path}"
    _session.post(url, data=raw, headers=headers, timeout=TIMEOUT).raise_for_status()


TASKS = {"tuned": send_tuned, "plain": send_plain}


def publish(send: Callable[..., object]) -> None:
    """Publish the webhooks of the file in the first argument, for the task in the second."""
    file, task = sys.argv[1:]
    for webhook in json.loads(Path(file).read_text()):
        send(task, *webhook)


@cache
def _sender() -> Sender:
    return Sender.from_environment(connections=int(os.environ["BENCHMARK_THREADS"]))


@cache
def _secret() -> Secret:
    return Secret.parse(os.environ["BENCHMARK_SECRET"])
