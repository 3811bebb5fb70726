"""Several worker processes of one command; `tests/faults` has those that are killed."""

from unittest.mock import Mock

import pytest

from notifier.worker import processes
from notifier.worker.processes import WorkerProcesses


def test_process_that_cannot_be_started_ends_those_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fork, first_pipe = Mock(), Mock()
    fork.Pipe.side_effect = [(first_pipe, Mock()), (Mock(), Mock())]
    fork.Process.return_value.start.side_effect = [None, BlockingIOError("no more processes")]
    monkeypatch.setattr(processes, "_FORK", fork)

    with pytest.raises(BlockingIOError):
        WorkerProcesses(Mock(), 2).run()

    first_pipe.send.assert_called_once_with(None)
