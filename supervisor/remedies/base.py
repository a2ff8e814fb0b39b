"""What a remedy is: a frozen dataclass whose fields are its YAML parameters, and one method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from supervisor.records import Decision
from supervisor.run import TrainingRun


def _nothing() -> None:
    """Undo a remedy that left nothing to undo."""


@dataclass(frozen=True)
class Effect:
    """What applying a remedy did."""

    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)  # what: (before, after)
    undo: Callable[[], None] = _nothing  # bit-exact, if called before the next optimizer step


class Remedy(Protocol):
    """One way to treat a finding.

    `apply` either changes the run and says what it changed, or raises RemedyRefused having changed nothing.
    """

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Treat what `decision.finding` says."""
