"""Recorded runs seen again: the same engine that judged them live, over the same figures, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor.diagnoses.base import Detector
from supervisor.diagnoses.examiner import Examiner
from supervisor.errors import JournalError, UsageError
from supervisor.recording.metrics import read_snapshots
from supervisor.records import Finding, Snapshot


def findings(snapshots: Iterable[Snapshot], detectors: Mapping[str, Detector]) -> Iterator[Finding]:
    """Yield what the detectors find, tick by tick; a caller who has seen enough may stop early."""
    examiner = Examiner(detectors)
    for now in snapshots:
        yield from examiner.examine(now)


def replay(snapshots: Iterable[Snapshot], detectors: Mapping[str, Detector]) -> list[Finding]:
    """Return all findings of a recorded run. Equal figures and thresholds give equal findings."""
    return list(findings(snapshots, detectors))


@dataclass(frozen=True)
class Recording:
    """A recorded run in memory, with the tick at which its fault begins."""

    run_dir: Path
    snapshots: tuple[Snapshot, ...]  # at least one
    onset: int | None = None  # tick; None: healthy throughout

    @property
    def healthy_ticks(self) -> int:
        """How many ticks lie before the onset."""
        if self.onset is None:
            return len(self.snapshots)
        return sum(now.tick < self.onset for now in self.snapshots)

    @staticmethod
    def read(run_dir: Path, onset: int | None = None) -> Recording:
        """Read a run's figures. Raises UsageError where there are none, or none at the onset."""
        try:
            snapshots = tuple(read_snapshots(run_dir))
        except JournalError as error:
            raise UsageError(str(error)) from None
        if not snapshots:
            message = f"{run_dir}: the run has not recorded a single tick. Leave it out."
            raise UsageError(message)
        first, last = snapshots[0].tick, snapshots[-1].tick
        if onset is not None and not first <= onset <= last:
            message = f"{run_dir}: onset {onset} is outside the run. Give a tick from {first} to {last}."
            raise UsageError(message)
        return Recording(run_dir, snapshots, onset)
