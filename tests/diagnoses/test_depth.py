"""The chain rule's fits, and what lets a healthy network go without one."""

from __future__ import annotations

import numpy as np
import pytest

from supervisor.diagnoses.depth import fit, may_reach


@pytest.mark.parametrize("points", [4, 5, 8, 50])
def test_no_line_rises_by_more_than_the_bound_allows(points: int) -> None:
    """Random courses, and the worst of them: a step in the middle."""
    random = np.random.default_rng(points)
    courses = [*random.normal(size=(300, points)), np.repeat([0.0, 1.0], [points // 2, points - points // 2])]
    for logs in courses:
        decay = fit(logs)
        assert decay is not None
        assert may_reach(10.0 ** logs.min(), 10.0 ** logs.max(), abs(decay.decades))


@pytest.mark.parametrize("low", [0.0, float("nan"), -1.0])
def test_what_is_zero_or_unknown_may_reach_anything(low: float) -> None:
    assert may_reach(low, 1.0, 8.0)
    assert may_reach(1.0, float("inf"), 8.0)
