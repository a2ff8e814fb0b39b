"""The past is robust, bounded, and immune to what it is there to detect."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.diagnoses.past import CAPACITY, LONGEST_ILL, REFRESH, SHIFT, Past, RobustSeries
from tests.diagnoses.shots import past_of, shot, usual

CENTRE, SIGMA = 5.0, 0.1

usual_noise = st.integers(0, 2**32 - 1).map(
    lambda seed: CENTRE + SIGMA * np.random.default_rng(seed).standard_normal(120).clip(-3, 3),
)
anything = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324])


def series_of(values: Iterable[float]) -> RobustSeries:
    series = RobustSeries()
    for value in values:
        series.add(float(value))
    return series


def limit(series: RobustSeries) -> float:
    return series.upper(6.0, 0.0)


@given(st.lists(anything, max_size=300))
@example([8.988465674311579e307, 8.98846567431158e307])
def test_only_finite_values_are_ever_kept_and_memory_is_bounded(values: list[float]) -> None:
    series = series_of(values)
    assert all(math.isfinite(value) for value in series.values)
    assert len(series) <= CAPACITY
    assert len(series._rejected) < SHIFT
    assert math.isfinite(series.centre) == (len(series) > 0)


@given(usual_noise)
def test_the_level_of_quiet_noise_is_learned(noise: Iterable[float]) -> None:
    series = series_of(noise)
    assert series.centre == pytest.approx(CENTRE, abs=SIGMA / 2)
    assert series.scale == pytest.approx(SIGMA, rel=0.7)


@pytest.mark.parametrize("outlier", [math.nan, math.inf, -math.inf, CENTRE + 100 * SIGMA, 1e300])
@given(noise=usual_noise)
def test_after_an_outlier_the_next_one_is_still_above_the_limit(outlier: float, noise: Iterable[float]) -> None:
    series = series_of([*noise])
    before = limit(series)
    for _ in range(5):
        assert not series.add(outlier)
        assert limit(series) == before
        assert before < CENTRE + 20 * SIGMA
        series.add(CENTRE)
        before = limit(series)


@given(usual_noise, st.floats(20 * SIGMA, 1000))
def test_a_level_that_stays_is_accepted_and_guarded_like_the_first(noise: np.ndarray, by: float) -> None:
    """SHIFT rejected values in a row are a new level; 20 sigmas above it are an outlier again."""
    series = series_of(noise)
    for value in noise[: SHIFT - 1]:
        assert not series.add(value + by)
    assert series.centre < CENTRE + SIGMA
    series.add(noise[SHIFT] + by)
    assert series.centre == pytest.approx(CENTRE + by, abs=SIGMA)
    assert series.add(CENTRE + by)
    assert limit(series) < CENTRE + by + 20 * SIGMA
    assert not series.add(CENTRE + by + 20 * SIGMA)


@given(usual_noise)
def test_outliers_with_usual_values_between_are_never_a_level(noise: Iterable[float]) -> None:
    series = series_of(noise)
    for value in [*noise][:100]:
        series.add(value + 100 * SIGMA)
        series.add(value)
    assert series.centre == pytest.approx(CENTRE, abs=SIGMA / 2)


@given(usual_noise)
def test_a_fallen_level_is_guarded_once_the_old_one_is_forgotten(noise: np.ndarray) -> None:
    series = series_of([*noise, *(noise[i % 120] - 50 * SIGMA for i in range(CAPACITY))])
    assert not series.add(CENTRE - 30 * SIGMA)


@given(usual_noise)
def test_a_slope_is_not_taken_for_noise(noise: np.ndarray) -> None:
    """A loss that falls by 120 sigmas is judged by its noise, not by how far it fell."""
    series = series_of(noise - SIGMA * np.arange(120))
    assert series.scale == pytest.approx(SIGMA, rel=1.0)


def test_an_outlier_among_the_first_values_does_not_blind() -> None:
    series = series_of([5.0, 5.1, 1e9, 4.9, 5.0, 5.05, 4.95, 5.0, 5.1])
    assert limit(series) < 6.0


def test_a_limit_is_never_closer_than_its_floor() -> None:
    assert series_of([5.0] * 20).upper(6.0, 0.5) == 5.5


# A training's past


def test_no_figure_of_a_non_finite_tick_enters() -> None:
    past = past_of(usual(30))
    levels = (past.loss.centre, past.log_grad_norm.centre, list(past.losses))
    for loss, norm in [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, math.inf)]:
        past.append(shot(31, loss, norm))
    assert (past.loss.centre, past.log_grad_norm.centre, list(past.losses)) == levels
    assert math.isfinite(past.initial_loss)


def test_memory_is_bounded() -> None:
    past = past_of(usual(1000))
    assert (len(past.loss), len(past.log_grad_norm), len(past.losses)) == (CAPACITY,) * 3
    assert len(past.samples) <= 64
    assert len(past._first) == 2 * REFRESH


def test_ill_ticks_teach_nothing_until_their_level_has_stayed() -> None:
    past = past_of(usual(50))
    centre = past.loss.centre
    for tick in range(LONGEST_ILL):
        past.append(shot(51 + tick, 0.9, 1.0), ill=True)
    assert (len(past.loss), past.loss.centre) == (50, centre)
    past.append(shot(300, 0.9, 1.0), ill=True)
    assert len(past.loss) == 51


def test_the_level_counts_outliers_and_the_healthy_level_does_not() -> None:
    past = past_of([*usual(50), *(shot(51 + t, 100.0, 1.0) for t in range(10))])
    assert past.level(10) == pytest.approx(100.0)
    median, noise = past.healthy_level(20)
    assert median == pytest.approx(1.0, rel=0.05)
    assert noise < 0.05


def test_without_a_past_all_levels_are_unknown() -> None:
    past = Past()
    assert math.isnan(past.level(5))
    assert all(math.isnan(value) for value in past.healthy_level(5))
    assert math.isnan(past.initial_loss)
    assert not past.stands(20)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("fall", "stands"),
    [(0.0, True), (0.0005, True), (0.02, False), (-0.02, True)],
    ids=["flat", "a crawl", "progress", "a rise"],
)
def test_a_loss_stands_unless_it_falls_beyond_its_noise(fall: float, stands: bool, scale: float) -> None:  # noqa: FBT001
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    past = past_of(shot(t, scale * (2.0 - fall * t / 4 + noise[t])) for t in range(1, 100))
    assert past.stands(40) == stands
