"""Jobs beside the training: flushing a mirror, watching, housekeeping.

Jobs run in threads, so they never touch tensors: they read plain numbers, write telemetry or put a request
in a queue that the loop serves at a tick's boundary.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler

LOGGER: Final = logging.getLogger("supervisor.background")

# APScheduler's own lines (a slow job "skipped" every second, each error a second time) are no news to a
# person: the listener below says what matters, once.
_SCHEDULER_LOGGER: Final = logging.getLogger("supervisor.background.apscheduler")
_SCHEDULER_LOGGER.setLevel(logging.CRITICAL)


class DaemonExecutor(BaseExecutor):  # type: ignore[misc] # apscheduler is untyped
    """Runs each job in a daemon thread.

    APScheduler's own pool is joined by the interpreter at exit: one request stuck in its retries would keep
    a finished training from returning to the shell for minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running: set[threading.Thread] = set()

    def _do_submit_job(self, job: Any, run_times: list[Any]) -> None:  # noqa: ANN401 - apscheduler is untyped
        name = f"supervisor-{job.name}"
        thread = threading.Thread(target=self._run, args=(job, run_times), name=name, daemon=True)
        self.running.add(thread)
        thread.start()

    def _run(self, job: Any, run_times: list[Any]) -> None:  # noqa: ANN401
        try:
            events = run_job(job, job._jobstore_alias, run_times, _SCHEDULER_LOGGER.name)  # noqa: SLF001 - as its own do
        except BaseException:  # noqa: BLE001 - a thread has nobody to raise to
            self._run_job_error(job.id, *sys.exc_info()[1:])
        else:
            self._run_job_success(job.id, events)
        finally:
            self.running.discard(threading.current_thread())


class Beside:
    """A scheduler beside one training. Nothing runs before the first job is given."""

    def __init__(self) -> None:
        self._scheduler: BackgroundScheduler | None = None
        self._executor = DaemonExecutor()
        self._failing: set[str] = set()
        self._pid = os.getpid()

    def every(self, seconds: float, job: Callable[[], None], name: str) -> None:
        """Call `job` every `seconds`, never twice at a time. What it raises is logged; it is called again.

        A job that takes longer than `seconds` skips the calls it missed.
        """
        if self._scheduler is None:
            self._scheduler = self._start()
        self._scheduler.add_job(job, "interval", seconds=seconds, id=name, name=name, replace_existing=True)

    def _start(self) -> BackgroundScheduler:
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        scheduler = BackgroundScheduler(
            executors={"default": self._executor},
            job_defaults=defaults,
            timezone="UTC",  # intervals need no local time, and a container may have none configured
            daemon=True,
            logger=_SCHEDULER_LOGGER,
        )
        scheduler.add_listener(self._listen, EVENT_JOB_ERROR | EVENT_JOB_EXECUTED)
        scheduler.start()
        return scheduler

    def _listen(self, event: JobExecutionEvent) -> None:
        if event.exception is None:
            self._failing.discard(event.job_id)
            return
        level = logging.DEBUG if event.job_id in self._failing else logging.WARNING
        self._failing.add(event.job_id)
        message = "background job %s failed and will be tried again: %r\n%s"
        LOGGER.log(level, message, event.job_id, event.exception, event.traceback)

    def shutdown(self, timeout: float) -> None:
        """Start no further job and wait up to `timeout` seconds for those that run. A stuck one is left behind."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is None or os.getpid() != self._pid:  # a forked child has none of the threads
            return
        deadline = time.monotonic() + timeout
        stopper = threading.Thread(target=scheduler.shutdown, kwargs={"wait": False}, daemon=True)
        stopper.start()
        for thread in (stopper, *tuple(self._executor.running)):
            thread.join(max(0.0, deadline - time.monotonic()))
        if left := [thread.name for thread in self._executor.running if thread.is_alive()]:
            LOGGER.warning("left behind at the end, still busy after %g s: %s", timeout, ", ".join(left))
