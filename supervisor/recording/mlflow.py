"""The MLflow mirror of a run. The training thread only puts plain figures in a queue; a background thread sends them.

Journal and metrics on disk are the truth, so nothing here may cost the training anything: a store that is slow,
dead or refuses costs one warning, and everything stays in the run's folder.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from supervisor.journal import Entry
from supervisor.recording.mlflow_points import Point, Points
from supervisor.recording.mlflow_run import MirrorRun
from supervisor.recording.mlflow_store import Store, chosen_run
from supervisor.recording.review import story_of
from supervisor.records import Snapshot, intervened

LOGGER: Final = logging.getLogger("supervisor.recording")

BATCH: Final = 1000  # metrics in one request: MLflow's limit
LIVE_BATCH: Final = 200  # while the training runs: a request holds the interpreter for some 15 ms
LIVE_SHARE: Final = 0.005  # of the time is spent on such requests at most; what has to wait is sent at the end
QUEUE: Final = 100_000  # points; enough for the longest outage, as thinned curves end at a few thousand each
PATIENCE: Final = {True: (10.0, 20.0), False: (2.0, 5.0)}  # seconds for open and close, by Store.local
LONGEST_PAUSE: Final = 30.0  # seconds between two tries to reach a store
TOLD_BY: Final = frozenset({"finding", "decision", "outcome", "trial", "verdict", "model_change"})


class MlflowRecorder:
    """A Recorder whose mirror is an MLflow run: the caller's active one, the one of MLFLOW_RUN_ID, or a new one."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._sending = threading.Lock()  # one sender at a time
        self._mirror: MirrorRun | None = None
        self._points = Points(None)
        self._queue: deque[Point] = deque(maxlen=QUEUE)
        self._untold = False  # the story has changed since it was last sent
        self._tell_after = self._try_after = self._send_after = 0.0  # time.monotonic()
        self._failures = 0  # in a row
        self._warned = False

    def open(self, start: Entry, run_dir: Path) -> None:
        """Choose the run and begin to mirror. Waits up to 10 s for a store on disk, up to 2 s for a server."""
        self._points = Points(start.get("steps"))
        self._mirror = MirrorRun(Store.current(), start, run_dir.resolve(), chosen_run())
        self._within(PATIENCE[self._mirror.store.local][0], self._begin)

    def _begin(self) -> None:
        mirror = self._running()
        mirror.store.probe()
        mirror.introduce()

    def record(self, entry: Entry) -> None:
        """Take in one journal line."""
        kind = entry["kind"]
        if kind == "evaluation":
            self._queue.extend(self._points.evaluation(entry))
        if kind == "trial":
            self._queue.extend(self._points.trial(entry))
        if kind == "outcome" and intervened(entry["remedy"], entry["status"], entry["changes"]):
            self._points.interventions += 1
        if kind == "decision":
            self._queue.extend(self._points.near(entry["tick"]))
        self._untold = self._untold or kind in TOLD_BY

    def snapshot(self, snapshot: Snapshot) -> None:
        """Take in the figures of one tick."""
        self._queue.extend(self._points.snapshot(snapshot))

    def flush(self) -> None:
        """Send what has gathered, one batch at the most. For the background; does nothing in a forked child."""
        if self._mirror is None or os.getpid() != self._pid or time.monotonic() < self._try_after:
            return
        if self._sending.acquire(blocking=False):
            try:
                self._guarded(self._send)
            finally:
                self._sending.release()

    def close(self, report: Any) -> None:  # noqa: ANN401 - any object with the attributes of Report
        """Send the rest and end the run: within 5 s for a server, 20 s for a store on disk. The rest stays on disk."""
        if self._mirror is None or os.getpid() != self._pid:
            return
        self._queue.extend(self._points.near(report.ticks))
        self._within(PATIENCE[self._mirror.store.local][1], lambda: self._finish(report.to_dict()))

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id, once known."""
        return self._mirror.run_id if self._mirror else None

    @property
    def tracking_uri(self) -> str | None:
        """The store, as an absolute URI."""
        return self._mirror.store.public if self._mirror else None

    @property
    def open_command(self) -> str:
        """Lines that tell a person where the run is and how to open it."""
        if self._mirror is None:
            return ""
        return self._mirror.store.how_to_open(self._mirror.run_id, self._mirror.experiment_id)

    def _running(self) -> MirrorRun:
        assert self._mirror is not None, "open() comes first"
        return self._mirror

    def _within(self, seconds: float, work: Callable[[], None]) -> None:
        """Do `work` in a daemon thread and wait for it up to `seconds`; it may go on after that."""
        deadline = time.monotonic() + seconds
        thread = threading.Thread(target=self._exclusively, args=(deadline, work), daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self._warn(f"no answer within {seconds:g} s")

    def _exclusively(self, deadline: float, work: Callable[[], None]) -> None:
        if self._sending.acquire(timeout=max(0.0, deadline - time.monotonic())):
            try:
                self._guarded(work)
            finally:
                self._sending.release()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do `work`; whatever it raises becomes one warning and a pause, never an error of the training."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - MLflow, its stores and the network raise anything
            self._failures += 1
            self._try_after = time.monotonic() + min(LONGEST_PAUSE, 2.0 ** min(self._failures, 10))
            self._warn(str(error).strip().partition("\n")[0] or type(error).__name__)
        else:
            self._failures, self._warned = 0, False

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            mirror = self._running()
            message = "MLflow at %s could not be written (%s). The training is not affected; the full record is in %s"
            LOGGER.warning(message, mirror.store.public, reason, mirror.run_dir)

    def _send(self) -> None:
        mirror = self._running()
        mirror.store.probe()
        mirror.introduce()
        if self._untold and time.monotonic() >= self._tell_after:
            self._tell()
        if time.monotonic() >= self._send_after:
            began = time.thread_time()  # waiting for a server is free
            self._send_batch(mirror, LIVE_BATCH)
            self._send_after = time.monotonic() + (time.thread_time() - began) / LIVE_SHARE

    def _tell(self) -> None:
        mirror = self._running()
        began = time.monotonic()
        self._untold = False  # before reading: what is recorded meanwhile is told the next time
        try:
            mirror.tell(story_of(mirror.run_dir) | {"status": "running"}, self._extra())
        except Exception:
            self._untold = True
            raise
        # Reading the journal takes the interpreter from the training: at most a twentieth of the time.
        self._tell_after = time.monotonic() + 20.0 * (time.monotonic() - began)

    def _extra(self) -> dict[str, str]:
        ticks = self._points.non_finite
        return {"supervisor.non_finite_ticks": str(ticks)} if ticks else {}

    def _send_batch(self, mirror: MirrorRun, most: int) -> None:
        batch = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        if not batch:
            return
        try:
            mirror.send(batch)
        except Exception:
            self._queue.extendleft(reversed(batch))
            raise

    def _finish(self, story: dict[str, Any]) -> None:
        """Send the story before the rest of the curves: if time runs out, what a person needs is there."""
        mirror = self._running()
        mirror.store.probe()
        mirror.introduce()
        story |= {"run_id": mirror.run_id, "tracking_uri": self.tracking_uri, "run_dir": str(mirror.run_dir)}
        mirror.illustrate(story)
        mirror.tell(story, self._extra())
        mirror.end(str(story["status"]))
        while self._queue:
            self._send_batch(mirror, BATCH)
