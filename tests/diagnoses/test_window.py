"""Medians of a window that slides are those of its values sorted anew."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from supervisor.diagnoses.window import Window


@pytest.mark.parametrize("size", [1, 2, 7, 200])
@pytest.mark.parametrize("rounded", [False, True], ids=["all different", "many alike"])
def test_median_and_deviation_are_exact(size: int, rounded: bool) -> None:  # noqa: FBT001
    values = np.random.default_rng(size).normal(size=3 * size + 5).round(1 if rounded else 12).tolist()
    window = Window(size)
    for n, value in enumerate(values, 1):
        window.add(value)
        held = values[max(0, n - size) : n]
        assert window.median() == pytest.approx(statistics.median(held), abs=1e-15)
        for centre in (window.median(), held[0], 10.0):
            distances = [abs(x - centre) for x in held]
            assert window.deviation(centre) == pytest.approx(statistics.median(distances), abs=1e-15)


def test_a_cleared_window_begins_anew() -> None:
    window = Window(3)
    for value in (5.0, 6.0, 7.0):
        window.add(value)
    window.clear()
    window.add(1.0)
    assert (window.median(), window.deviation(0.0)) == (1.0, 1.0)
