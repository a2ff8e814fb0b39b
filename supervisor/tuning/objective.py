"""What good thresholds are, as one number and its parts: no false alarm, no fault missed, faults seen soon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from supervisor.diagnoses.base import Detector
from supervisor.tuning.replay import Recording, findings

FALSE_ALARM_WEIGHT: Final = 2.0
"""One false alarm in 1000 healthy ticks costs twice what missing every fault does: healthy runs come first."""


@dataclass(frozen=True)
class Score:
    """How a detector did on recorded runs. Every part is better when lower."""

    cost: float  # what is minimised: latency + FALSE_ALARM_WEIGHT * false_alarms_per_1000
    missed: int  # faulty runs without a finding from the onset on
    latency: float  # ticks from onset to finding as a share of the ticks left; mean, a missed run counts 1
    false_alarms: int  # findings in healthy runs and before an onset
    false_alarms_per_1000: float  # healthy ticks

    def figures(self) -> dict[str, float]:
        """Return the parts by name."""
        return asdict(self)


def score(detector: Detector, runs: Sequence[Recording]) -> Score:
    """Replay `runs` under one detector. They must hold a faulty run and a healthy tick."""
    detectors = {"tuned": detector}
    alarms, latencies = 0, []
    for run in runs:
        seen = (finding.tick for finding in findings(run.snapshots, detectors))
        if run.onset is None:
            alarms += sum(1 for _ in seen)
            continue
        early, latency = _faulty(seen, run.onset, run.snapshots[-1].tick)
        alarms += early
        latencies.append(latency)
    per_1000 = 1000.0 * alarms / sum(run.healthy_ticks for run in runs)
    mean = sum(latencies) / len(latencies)
    cost = mean + FALSE_ALARM_WEIGHT * per_1000
    return Score(cost, latencies.count(1.0), mean, alarms, per_1000)


def _faulty(seen: Iterable[int], onset: int, last: int) -> tuple[int, float]:
    """Return the alarms before the onset, and the latency after it: 1 if the fault was missed."""
    early = 0
    for tick in seen:
        if tick >= onset:
            return early, (tick - onset) / (last - onset + 1)  # below 1: seen late is still seen
        early += 1
    return early, 1.0
