"""Webhooks as tasks of Celery; as a program it publishes those of a file."""

import json
import os
import sys
from functools import cache
from pathlib import Path

from celery import Celery

from benchmarks.tuned_requests import Sender

app = Celery("benchmarks", broker=os.environ["BENCHMARK_REDIS"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    # Its documentation recommends 50 to 150 for many short tasks.
    worker_prefetch_multiplier=64,
)


@cache
def _sender() -> Sender:
    return Sender.from_environment(connections=int(os.environ["BENCHMARK_THREADS"]))


def _post(path: str, webhook_id: str, body: str) -> None:
    _sender().send(path, webhook_id, body)


post = app.task(_post, name="post")

if __name__ == "__main__":
    for webhook in json.loads(Path(sys.argv[1]).read_text()):
        post.delay(*webhook)
