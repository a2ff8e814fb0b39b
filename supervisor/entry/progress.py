"""The progress line of a terminal: step, loss, and how the training is."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from supervisor.loop import Supervisor
from supervisor.records import Snapshot


class Progress:
    """A progress bar on standard error, or nothing."""

    def __init__(self, shown: bool | None, steps: int | None) -> None:  # noqa: FBT001 - None means: on a terminal
        visible = sys.stderr.isatty() if shown is None else shown
        columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) if visible else None
        self._task = self._bar.add_task("", total=steps) if self._bar is not None else None

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def show(self, now: Snapshot, step: int, supervisor: Supervisor) -> None:
        """Show the state after one tick."""
        if self._bar is None or self._task is None:
            return
        open_now = ", ".join(supervisor.ledger.incidents) or "healthy"
        done = [d for d in supervisor.decisions if d.intervention]
        last = f", last: {done[-1].remedy} at tick {done[-1].tick}" if done else ""
        self._bar.update(self._task, completed=step, description=f"loss {now.loss:.4g}, {open_now}{last}")
