"""The user's own held-out score, taken when it is due."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Final

from supervisor.entry.training import Evaluate, kind_of
from supervisor.errors import UsageError
from supervisor.run import Clock

QUICK: Final = 0.5  # seconds an evaluation may take to be asked at the end of every branch of a trial


class Evaluation:
    """Calls `evaluate` every N steps, once a step, and at the end."""

    def __init__(self, function: Evaluate | None, every: int | None) -> None:
        self.function, self.every = function, every
        self.history: list[Mapping[str, Any]] = []
        self._last_step = 0
        self._seconds = math.inf  # that the last evaluation took

    def due(self, step: int) -> bool:
        """Return whether `step` is one to evaluate at. A step repeated after a rollback is due again."""
        if step < self._last_step:
            self._last_step = 0  # the state that was evaluated is no more
        due = self.function is not None and self.every is not None and step % self.every == 0
        return due and step != self._last_step

    def due_at_end(self, step: int) -> bool:
        """Return whether the state at the end was not evaluated yet."""
        return self.function is not None and step != self._last_step

    def evaluate(self, clock: Clock) -> Mapping[str, Any]:
        """Return tick, step and metrics of the training as it stands. UsageError if they are no numbers."""
        began = time.perf_counter()
        figures = self._figures()
        self._seconds = time.perf_counter() - began
        self._last_step = clock.step
        self.history.append({"tick": clock.tick, "step": clock.step, "metrics": figures})
        return self.history[-1]

    def quick_score(self) -> float:
        """Return the loss on held-out data, for a trial; NaN where evaluating is not known to be quick."""
        return self._figures().get("loss", math.nan) if self._seconds < QUICK else math.nan

    def _figures(self) -> dict[str, float]:
        assert self.function is not None
        result = self.function()
        metrics = result if isinstance(result, Mapping) else {"loss": result}
        try:
            return {str(name): float(value) for name, value in metrics.items()}
        except (TypeError, ValueError):
            message = f'evaluate: expected a number, or a mapping of numbers with a "loss", got {kind_of(result)}'
            raise UsageError(message) from None
