from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.diagnoses.past import Past
from supervisor.records import Finding, Snapshot
from supervisor.tuning.objective import FALSE_ALARM_WEIGHT, Score, score
from supervisor.tuning.replay import Recording
from tests.tuning.recorded import record


@dataclass(frozen=True)
class At:
    """Speaks at given ticks, whatever it sees."""

    ticks: tuple[int, ...] = ()

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        if now.tick not in self.ticks:
            return None
        return Finding("plateau", now.tick, now.step, (), 1.0, "told to")


@pytest.fixture
def runs(tmp_path: Path) -> list[Recording]:
    healthy = Recording.read(record(tmp_path / "healthy", 50, {}))
    return [healthy, Recording.read(record(tmp_path / "faulty", 150, {}), onset=51)]


def test_silence_misses_the_fault_and_raises_no_alarm(runs: list[Recording]) -> None:
    assert score(At(), runs) == Score(cost=1.0, missed=1, latency=1.0, false_alarms=0, false_alarms_per_1000=0.0)


def test_a_fault_seen_at_once_costs_nothing(runs: list[Recording]) -> None:
    assert score(At((51,)), runs).cost == 0.0


def test_latency_is_a_share_of_what_was_left_of_the_run(runs: list[Recording]) -> None:
    assert score(At((76, 80)), runs).latency == 0.25


def test_a_fault_seen_in_the_last_tick_is_late_and_not_missed(runs: list[Recording]) -> None:
    late = score(At((150,)), runs)

    assert late.missed == 0
    assert late.latency == 0.99


def test_alarms_count_in_healthy_runs_and_before_an_onset(runs: list[Recording]) -> None:
    """Tick 10 speaks in both runs, tick 51 is the fault itself."""
    found = score(At((10, 51)), runs)

    assert found.false_alarms == 2
    assert found.false_alarms_per_1000 == 20.0  # 2 in 100 healthy ticks
    assert math.isclose(found.cost, FALSE_ALARM_WEIGHT * 20.0)


def test_one_false_alarm_in_a_thousand_ticks_outweighs_any_latency(tmp_path: Path) -> None:
    healthy = Recording.read(record(tmp_path / "healthy", 950, {}))
    faulty = Recording.read(record(tmp_path / "faulty", 150, {}), onset=51)

    assert score(At(), [healthy, faulty]).cost < score(At((10,)), [faulty, healthy]).cost
