"""What remedies set on the tick clock: a ramp, a decay, and a controller that noise does not fool."""

from __future__ import annotations

import math

import numpy as np
import pytest

from supervisor.settings import Decay, Plateau, Ramp, Settings, lowered


def reductions(losses: list[float], patience: int = 200, plateau: Plateau | None = None) -> list[int]:
    """Return after which steps a controller asks for a lower rate."""
    controller, asked = plateau or Plateau(0.5, patience, 0.0), []
    for step, loss in enumerate(losses, start=1):
        controller, due = controller.told(loss, step)
        asked += [step] if due else []
    return asked


def noisy(levels: list[float], seed: int, sigma: float = 0.3) -> list[float]:
    noise = np.random.default_rng(seed).standard_normal(len(levels))
    return [level + sigma * float(one) for level, one in zip(levels, noise, strict=True)]


def test_a_ramp_rises_linearly_and_ends_at_exactly_one() -> None:
    ramp = Ramp(start=0.25, began=10, until=14)
    assert [ramp.factor(tick) for tick in (9, 10, 12, 13, 14, 99)] == [0.25, 0.25, 0.625, 0.8125, 1.0, 1.0]
    assert Settings(lr_multiplier=0.5, ramp=ramp).rate(12) == 0.3125


def test_decays_set_on_top_of_one_another_are_one() -> None:
    decay = Decay().then(10.0, 0.01, bare=False).then(0.5, 0.1, bare=False)
    assert decay.of(0.02) == pytest.approx((0.02 * 10.0 + 0.01) * 0.5 + 0.1)
    assert decay.of(0.0) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_stands_is_seen_through_the_noise_within_three_times_the_patience(seed: int) -> None:
    asked = reductions(noisy([1.0] * 2000, seed))
    assert asked
    assert asked[0] >= 200


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_falls_by_a_noise_in_each_patience_is_left_alone(seed: int) -> None:
    assert reductions(noisy([6.0 - 0.3 * step / 200 for step in range(2000)], seed)) == []


def test_negative_losses_are_judged_alike() -> None:
    assert reductions([-step / 10 for step in range(500)], patience=40) == []
    assert reductions([-3.0] * 500, patience=40)[0] == 50


def test_what_is_not_finite_and_single_spikes_are_no_losses() -> None:
    falling = [10.0 - step / 100 for step in range(900)]
    for place in range(5, 900, 7):
        falling[place] = (math.nan, math.inf, -math.inf, 1e30)[place % 4]
    assert reductions(falling, patience=40) == []
    assert reductions([math.nan] * 900, patience=40) == []
    assert Plateau(0.5, 8, 0.0).told(math.nan, 1)[0].best == math.inf


def test_a_reduction_starts_the_patience_anew() -> None:
    assert reductions([1.0] * 200, patience=40) == [50, 90, 130, 170]


def test_after_a_rollback_the_place_it_led_to_is_judged_by_its_own_levels() -> None:
    """Its loss lies higher than the best before, and falls: that is progress."""
    controller, _ = Plateau(0.5, 20, 0.0), None
    for step in range(1, 50):
        controller, _ = controller.told(0.1, step)
    asked = []
    for step in range(10, 200):
        controller, due = controller.told(5.0 - step / 50, step)
        asked.append(due)
    assert not any(asked)


@pytest.mark.parametrize(
    ("multiplier", "rates", "expected"),
    [
        (1.0, [0.1, 1e-3], 0.1),
        (1.0, [0.1, 5e-7], 0.2),  # the second goes down to min_lr, and the first with it
        (1.0, [0.1, 1e-9], 0.1),  # below it by the user's own will: binds nobody
        (1.0, [1e-9], 1.0),
        (0.1, [1e-6], 0.1),
        (1.0, [], 1.0),
    ],
)
def test_lowering_takes_no_rate_below_the_floor(multiplier: float, rates: list[float], expected: float) -> None:
    assert lowered(multiplier, 0.1, 1e-7, rates) == pytest.approx(expected)
