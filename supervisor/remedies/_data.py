"""Requests to the data's side, which the loop around the training fulfils at the tick's boundary."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.errors import RemedyRefused
from supervisor.run import TrainingRun


def refuse_without_data_control(run: TrainingRun, what: str) -> None:
    """Raise RemedyRefused where the training draws its own batches."""
    if not run.data_control:
        message = f"{what}: the training draws its own batches; pass them as data= to let them be skipped"
        raise RemedyRefused(message)


def ask_to_skip(run: TrainingRun, count: int) -> Callable[[], None]:
    """Ask for `count` further batches to be dropped, beside what is asked already; return what takes that back."""
    before = run.batches_to_skip
    run.batches_to_skip = max(before, count)

    def undo() -> None:
        run.batches_to_skip = before

    return undo
