"""Runs workers until all tasks are done: where Apple's frameworks end the process, that task has
failed and the next worker goes on behind it."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tensorflow_metal_py.selftest.tasks import Result
from tensorflow_metal_py.selftest.worker import Order

# Longer than TensorFlow takes to start and than any task takes on a slow machine: a GPU that hangs.
PATIENCE_SECONDS = 180.0
MOST_CRASHES = 25  # then the rest would not tell more
COMMAND = (sys.executable, "-m", "tensorflow_metal_py.selftest.worker")
# What the tests themselves need to see of the machine: all ops, nothing of what the user set.
ENVIRONMENT = {
    "TF_METAL_QUARANTINE": "off",
    "TF_METAL_GRAPPLER": "all",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
STDERR_LINES = 3  # of the end of a worker, in the report
# What every process prints at its start.
NOISE = ("WARNING: All log messages", "I0000", "tensorflow-metal-py W")


@dataclasses.dataclass
class Finding:
    """A task, what it may ban, and its result (tasks.Result as a dict)."""

    id: str
    group: str
    candidate: dict[str, str]
    result: dict[str, Any]

    @property
    def section(self) -> str:
        return self.id.split("/")[0]


def _finding(begin: dict[str, Any], result: dict[str, Any]) -> Finding:
    return Finding(begin["begin"], begin["group"], begin["quarantine"], result)


class WorkerError(RuntimeError):
    """A worker did not get as far as its first task; the message says why."""


@dataclasses.dataclass
class Run:
    """What the workers said so far."""

    machine: dict[str, Any] = dataclasses.field(default_factory=dict)
    total: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    complete: bool = False


class _Worker:
    """A process, its lines, and the end of what it printed."""

    def __init__(self, command: Sequence[str], order: Order):
        self.process = subprocess.Popen(
            [*command, json.dumps(dataclasses.asdict(order))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **ENVIRONMENT},
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.stderr: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)
        self.threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _read_errors(self) -> None:
        lines = (line.strip() for line in self.process.stderr)
        self.stderr.extend(line for line in lines if line and not line.startswith(NOISE))

    def messages(self, patience: float) -> Iterator[dict[str, Any]]:
        """Until it ends, or says nothing for so long that it is ended."""
        while True:
            try:
                line = self.lines.get(timeout=patience)
            except queue.Empty:
                self.process.kill()
                self.stderr.append(f"it said nothing for {patience:.0f} seconds")
                return
            if line is None:
                return
            yield json.loads(line)

    def end(self) -> str:
        """How it ended: "SIGABRT: what it said last"."""
        status = self.process.wait()
        for thread in self.threads:
            thread.join()
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return f"{name}: {' / '.join(self.stderr)}" if self.stderr else name


def run_all(
    order: Order,
    progress: Callable[[int, int, str], None],
    command: Sequence[str] = COMMAND,
    patience: float = PATIENCE_SECONDS,
) -> Run:
    """Runs the tasks of `order`; `progress(done, total, id)` is called before each.

    Raises:
      WorkerError: a worker ended before its first task.
    """
    run = Run()
    crashes = 0
    while not run.complete:
        worker = _Worker(command, dataclasses.replace(order, done=len(run.findings)))
        open_task: dict[str, Any] | None = None
        for message in worker.messages(patience):
            run.machine = message.get("machine", run.machine)
            run.total = message.get("total", run.total)
            if "begin" in message:
                open_task = message
                progress(len(run.findings), run.total, message["begin"])
            elif "result" in message:
                run.findings.append(_finding(open_task, message["result"]))
                open_task = None
            run.complete = run.complete or "end" in message
        ended = worker.end()
        if run.complete or not run.machine.get("active", True):
            break
        if open_task is None:
            raise WorkerError(f"the tests could not go on: {ended}")
        crashes += 1
        crash = Result(False, f"the process ended: {ended}", quarantine=open_task["quarantine"])
        run.findings.append(_finding(open_task, dataclasses.asdict(crash)))
        if crashes >= MOST_CRASHES or len(run.findings) >= run.total:
            run.complete = len(run.findings) >= run.total
            break
    return run
