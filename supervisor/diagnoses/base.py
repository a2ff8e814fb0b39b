"""What a detector is: a frozen dataclass whose fields are its thresholds, and one pure method."""

from __future__ import annotations

from typing import Protocol

from supervisor.diagnoses.past import Past
from supervisor.records import Finding, Snapshot


class Detector(Protocol):
    """Looks at one tick and its past; says what is wrong, or None. It keeps no state of its own."""

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return the finding of this tick. `past` ends with the tick before `now`."""
