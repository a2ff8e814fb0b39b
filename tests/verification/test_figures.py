"""The pathology's own figure: higher is healthier, and NaN where there is none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from supervisor.records import SILENCE_LENGTHS, Sample
from supervisor.verification.figures import figure, healed
from tests.diagnoses.shots import ANATOMY, full

BLANK = Sample.blank(5, 4)


def test_vanishing_is_told_in_decades_of_gradient_lost_over_the_depth() -> None:
    flow = np.array([1e-9, 1e-6, 1e-3, 1e-2, 1e-1], np.float32)
    assert figure("vanishing_gradients", replace(BLANK, flow=flow), ANATOMY) == pytest.approx(-8.0, abs=1e-3)
    even = replace(BLANK, flow=full(0.3, 5))
    assert figure("vanishing_gradients", even, ANATOMY) == -2.0  # well is well


def test_vanishing_through_time_counts_like_that_over_the_depth() -> None:
    time_flow = full(math.nan, 5, 8)
    time_flow[2] = np.logspace(-5, 0, 8)
    sample = replace(BLANK, flow=full(1.0, 5), time_flow=time_flow)
    assert figure("vanishing_gradients", sample, ANATOMY) == pytest.approx(-5.0, abs=1e-3)


def test_a_gradient_that_does_not_arrive_at_all_is_worse_than_any() -> None:
    dead = replace(BLANK, flow=np.array([0.0, 1.0, 1.0, 1.0, 1.0], np.float32))
    assert figure("vanishing_gradients", dead, ANATOMY) <= -30.0
    assert math.isnan(figure("vanishing_gradients", replace(BLANK, flow=full(0.0, 5)), ANATOMY))


def test_dead_units_are_counted_over_all_hidden_layers() -> None:
    silent = full(0.0, 4, len(SILENCE_LENGTHS))
    silent[:2] = 1.0
    assert figure("dead_units", replace(BLANK, silent=silent), ANATOMY) == 0.5


def test_saturation_is_that_of_the_worst_site() -> None:
    slope = np.array([0.9, 0.05, math.nan, 0.8], np.float32)
    assert figure("saturation", replace(BLANK, slope=slope), ANATOMY) == pytest.approx(0.05)
    assert figure("saturation", BLANK, ANATOMY) == 0.5


def test_a_plateau_is_told_by_the_length_of_steps_up_to_a_brisk_one() -> None:
    slow = replace(BLANK, weight_norms=full(1.0, 5), update_norms=full(1e-6, 5))
    assert figure("plateau", slow, ANATOMY) == pytest.approx(-6.0, abs=1e-3)
    assert figure("plateau", replace(slow, update_norms=full(0.1, 5)), ANATOMY) == -2.5


@pytest.mark.parametrize("pathology", ["exploding_gradients", "non_finite", "unstable_training"])
def test_where_the_loss_says_it_all_there_is_no_figure(pathology: str) -> None:
    assert math.isnan(figure(pathology, BLANK, ANATOMY))
    assert not healed(pathology, 0.0, 100.0)


def test_healed_means_clearly_better_and_never_on_nan() -> None:
    assert healed("vanishing_gradients", -8.0, -1.0)
    assert not healed("vanishing_gradients", -1.0, -0.5)
    assert not healed("dead_units", math.nan, 1.0)
    assert not healed("dead_units", 0.0, math.nan)
