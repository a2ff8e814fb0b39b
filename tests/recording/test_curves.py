from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from supervisor.recording.curves import NEAR_BUDGET, Thinner, stride, thin


def test_spikes_survive_thinning() -> None:
    values = np.full(100_000, 0.5)
    values[[7, 41_312, 99_998]] = [90.0, 300.0, -4.0]
    ticks, thinned = thin(np.arange(100_000), values)
    assert len(ticks) <= 2_002
    assert {300.0, 90.0, -4.0} <= set(thinned)
    assert ticks[thinned == 300.0] == [41_312]


def test_both_ends_survive_thinning() -> None:
    ticks, _ = thin(np.arange(50_000), np.linspace(1.0, 2.0, 50_000), points=100)
    assert (ticks[0], ticks[-1]) == (0, 49_999)


def test_short_curves_are_left_as_they_are_but_for_what_is_not_finite() -> None:
    ticks, values = thin(np.array([1, 2, 3, 4]), np.array([0.1, np.nan, np.inf, 0.4]))
    assert (list(ticks), list(values)) == ([1, 4], [0.1, 0.4])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=500), st.integers(2, 50))
def test_thinning_keeps_the_extremes_in_order(values: list[float], points: int) -> None:
    ticks, thinned = thin(np.arange(len(values)), np.array(values), points)
    assert (thinned.min(), thinned.max()) == (min(values), max(values))
    assert (np.diff(ticks) > 0).all()


def sent(ticks: int, expected: int | None) -> list[int]:
    return [tick for tick in range(1, ticks + 1) if tick % stride(tick, expected) == 0]


def test_a_short_run_is_sent_whole() -> None:
    assert len(sent(500, 500)) == 500
    assert len(sent(256, None)) >= 255


def test_a_run_of_known_length_sends_at_most_750_points() -> None:
    for steps in (1_000, 1_001, 12_345, 300_000):
        assert 250 <= len(sent(int(1.5 * steps), steps)) <= 750


def test_an_endless_run_sends_ever_rarer_points() -> None:
    assert len(sent(370_000, None)) <= 1_600
    gaps = np.diff(sent(370_000, None))
    assert (np.diff(gaps) >= 0).all()


def test_every_tick_near_a_decision_is_sent_once() -> None:
    thinner: Thinner[int] = Thinner(expected=100_000)
    points = []
    for tick in range(4_901, 5_100):
        if tick == 5_003:
            points += thinner.release(tick)
        if thinner.offer(tick, tick):
            points.append(tick)
    assert set(range(4_994, 5_013)) <= set(points)
    assert len(points) == len(set(points))


def test_many_decisions_cannot_undo_the_thinning() -> None:
    thinner: Thinner[int] = Thinner(expected=100_000)
    extra = 0
    for tick in range(1, 100_001):
        extra += len(thinner.release(tick)) if tick % 10 == 0 else 0
        extra += thinner.offer(tick, tick)
    assert extra <= 500 + NEAR_BUDGET
