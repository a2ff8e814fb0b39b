"""A fault that never ends must not keep a training busy for ever: what is done about it is bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from supervisor.policy import Policy
from tests.entry.trainings import Lab, batches, poisoned
from tests.scenarios.faults import (
    kill_units,
    leap_rate,
    normed,
    plain,
    ruin_moments,
    ruin_weights,
    rungs,
    trained,
    treatments,
)

STEPS = 300
FAULTS: dict[str, tuple[Callable[[], Lab], Callable[[Lab], Callable[[], None]], range]] = {
    "weights": (normed, ruin_weights, range(100, 2 * STEPS)),
    "weights now and then": (normed, ruin_weights, range(100, 2 * STEPS, 60)),
    "moments": (normed, ruin_moments, range(100, 2 * STEPS)),
    "rate": (plain, lambda training: leap_rate(training, 1.5), range(100, 2 * STEPS, 5)),
    "units": (
        lambda: plain(0.01, torch.optim.Adam),
        lambda training: kill_units(training, 24),
        range(60, 2 * STEPS, 20),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_permanent_fault_comes_to_an_end_within_the_policy_s_bounds(fault: str) -> None:
    make, strike, when = FAULTS[fault]
    training, limits = make(), Policy.load("default").limits
    report = trained(training, batches(2 * STEPS), (when, strike(training)), steps=STEPS)
    assert report.health == "unresolved"
    assert report.ticks <= 1.5 * STEPS + 1
    assert len(treatments(report)) <= limits.interventions
    assert longest_skipping(report_rungs := rungs(report)) <= limits.consecutive_skips
    assert report.trial_passes <= 0.15 * report.ticks + 0.15 * STEPS
    if report.status == "stopped":
        assert report_rungs[-1] == ("stop",)
        assert report.stop_reason.startswith(f"non_finite at tick {report.ticks}")
        assert report.decisions[-1].finding.cause in report.stop_reason


def test_two_permanent_faults_at_once_come_to_an_end_too() -> None:
    training = plain(0.01, torch.optim.Adam)
    data = poisoned(batches(2 * STEPS), *range(100, 2 * STEPS, 4))
    report = trained(training, data, (range(60, 2 * STEPS, 20), kill_units(training, 24)), steps=STEPS)
    limits = Policy.load("default").limits
    assert report.ticks <= 1.5 * STEPS + 1
    assert len(treatments(report)) <= limits.interventions
    assert all(bool(torch.isfinite(p).all()) for p in training.model.parameters())


def longest_skipping(done: list[tuple[str, ...]]) -> int:
    longest = run = 0
    for rung in done:
        run = run + 1 if rung == ("skip_step",) else 0
        longest = max(longest, run)
    return longest
