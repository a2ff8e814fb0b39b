"""Work spread over processes: a job that dies or takes too long is a failure with its reason, the others go on.

Unlike the pools of the standard library this one knows what a process was doing when it died, and can end it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Generic, TypeVar

from supervisor.errors import SupervisorError

J = TypeVar("J")
R = TypeVar("R")

_SPAWN: Final = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
_READY: Final = "ready"


@dataclass(frozen=True)
class Failure:
    """Why a job has no result."""

    why: str


def work(
    task: Callable[[J], R], jobs: Sequence[J], workers: int, limit: Callable[[J], float],
) -> Iterator[tuple[J, R | Failure]]:  # fmt: skip
    """Yield every job with its result as they come in. `limit` says how many seconds a job may take.

    `task`, jobs and results are pickled. Left early, it ends its processes. SupervisorError where they cannot start.
    """
    waiting = list(reversed(jobs))
    crew = [_Worker(task, limit) for _ in range(min(workers, len(jobs)))]
    try:
        while waiting or any(worker.busy for worker in crew):
            for worker in crew:
                if worker.ready and not worker.busy and waiting:
                    worker.give(waiting.pop())
            wait([worker.connection for worker in crew if worker.awaited], timeout=0.5)
            for worker in crew:
                yield from worker.results()
    finally:
        for worker in crew:
            worker.end()


class _Worker(Generic[J, R]):
    """One process, started anew whenever it was lost."""

    def __init__(self, task: Callable[[J], R], limit: Callable[[J], float]) -> None:
        self.task, self.limit = task, limit
        self.process: SpawnProcess
        self._start()

    def _start(self) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(theirs, self.task), daemon=True)
        with _deaf():
            self.process.start()
        theirs.close()
        self.ready, self._jobs = False, list[J]()
        self._until = 0.0

    @property
    def busy(self) -> bool:
        """Whether it has a job."""
        return bool(self._jobs)

    @property
    def awaited(self) -> bool:
        """Whether it is going to say something."""
        return self.busy or not self.ready

    def give(self, job: J) -> None:
        """Hand over a job; the clock starts."""
        self._jobs, self._until = [job], time.monotonic() + self.limit(job)
        try:
            self.connection.send(job)
        except OSError:
            return  # it is dead, which the next look at it tells

    def results(self) -> Iterator[tuple[J, R | Failure]]:
        """Yield the job that is done, if it is."""
        said: Any = None
        try:
            if self.connection.poll():
                said = self.connection.recv()
        except (EOFError, OSError):
            said = self._lost()
        if said == _READY:
            self.ready = True
        elif said is not None:
            yield self._jobs.pop(), said
        elif self.busy and time.monotonic() > self._until:
            job = self._jobs.pop()
            self._renew()
            yield job, Failure(f"ended after {self.limit(job):.0f} s")

    def _lost(self) -> Failure:
        self.process.join()
        code = self.process.exitcode
        if not self.busy:
            message = f"a process of the clinic ended at its start with exit code {code}. Does `import torch` work?"
            raise SupervisorError(message)
        job = self._jobs
        self._renew()
        self._jobs = job
        return Failure(f"its process died with exit code {code}")

    def _renew(self) -> None:
        self.end()
        self._start()

    def end(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Let what is started here ignore Ctrl-C: the parent ends its workers, and they have nothing to say about it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(connection: Connection, task: Callable[[Any], Any]) -> None:
    """Do jobs until the parent is gone. Nothing is printed: trainings are chatty, and the terminal holds a table."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    connection.send(_READY)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(attempt(task, job))


def attempt(task: Callable[[J], R], job: J) -> R | Failure:
    """Return what `task` makes of `job`, or why it failed and where."""
    try:
        return task(job)
    except Exception as error:  # noqa: BLE001 - a case is anyone's code
        return Failure(reason(error))


def reason(error: Exception) -> str:
    """Return an error as one line, with the place it was raised at."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({os.path.basename(last[0].filename)}:{last[0].lineno})" if last else ""  # noqa: PTH119
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{place}"
