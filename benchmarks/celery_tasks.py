"""Webhooks as tasks of Celery; as a program it publishes those of a file."""

import os

from celery import Celery

from benchmarks import queue_tasks

app = Celery("benchmarks", broker=os.environ["BENCHMARK_REDIS"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    # Its documentation recommends 50 to 150 for many short tasks.
    worker_prefetch_multiplier=64,
)
tasks = {name: app.task(send, name=name) for name, send in queue_tasks.TASKS.items()}

if __name__ == "__main__":
    queue_tasks.publish(lambda task, *webhook: tasks[task].delay(*webhook))
