"""Webhooks as tasks of dramatiq; as a program it publishes those of a file."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import queue_tasks

dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_REDIS"]))
tasks = {name: dramatiq.actor(send, actor_name=name) for name, send in queue_tasks.TASKS.items()}

if __name__ == "__main__":
    queue_tasks.publish(lambda task, *webhook: tasks[task].send(*webhook))
