"""Webhooks as tasks of dramatiq; as a program it publishes those of a file."""

import json
import os
import sys
from functools import cache
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.tuned_requests import Sender

dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_REDIS"]))


@cache
def _sender() -> Sender:
    return Sender.from_environment(connections=int(os.environ["BENCHMARK_THREADS"]))


def _post(path: str, webhook_id: str, body: str) -> None:
    _sender().send(path, webhook_id, body)


post = dramatiq.actor(_post, actor_name="post")

if __name__ == "__main__":
    for webhook in json.loads(Path(sys.argv[1]).read_text()):
        post.send(*webhook)
