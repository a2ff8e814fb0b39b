"""Which branch wins against doing nothing: figures in, a verdict out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supervisor.verification.weigh import Branch, Weighed, weigh, winner

STEPS = 24
NOISE = np.random.default_rng(3).normal(size=STEPS)


def course(start: float, end: float, rung: int = 0, noise: float = 0.2, **more: Any) -> Branch:
    """Return a branch whose loss goes in a straight line, on batches that all branches share."""
    line = np.linspace(start, end, STEPS) + noise * NOISE
    return Branch(f"rung {rung}", rung, tuple(line.tolist()), **more)


def against(control: Branch, *arms: Branch, pathology: str = "plateau", probation: int = 50) -> list[Weighed]:
    return weigh(pathology, control, arms, probation)


def results(control: Branch, *arms: Branch, pathology: str = "plateau", probation: int = 50) -> list[str]:
    return [weighed.result for weighed in against(control, *arms, pathology=pathology, probation=probation)]


STANDS = course(2.3, 2.3, -1)


def test_the_noise_of_shared_batches_drops_out() -> None:
    """A lead of a fortieth of the noise between batches is seen, because both branches saw the same batches."""
    assert results(course(2.0, 2.0, -1, noise=4.0), course(1.9, 1.9, noise=4.0)) == ["won"]


def test_a_lead_of_less_than_a_hundredth_is_none() -> None:
    assert results(STANDS, course(2.299, 2.299)) == ["undecided"]


def test_an_arm_of_its_own_noise_must_lead_by_more_than_that() -> None:
    other = tuple((2.25 + 0.3 * np.random.default_rng(8).normal(size=STEPS)).tolist())
    assert results(STANDS, Branch("other", 0, other)) != ["won"]


def test_a_worse_loss_loses() -> None:
    assert results(STANDS, course(2.3, 3.3)) == ["lost"]


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_what_ends_non_finite_loses_and_anything_beats_it(end: float) -> None:
    ruined = Branch("ruined", 1, (2.3,) * (STEPS - 1) + (end,))
    assert results(STANDS, ruined) == ["lost"]
    assert results(ruined, STANDS) == ["won"]
    assert results(ruined, ruined) == ["lost"]


def test_what_falls_fast_wins_before_it_is_lower_if_it_will_be_within_the_probation() -> None:
    fresh = course(3.5, 2.5)
    assert results(STANDS, fresh, probation=50) == ["won"]
    assert results(STANDS, fresh, probation=5) == ["lost"]


def test_a_fall_that_is_all_noise_predicts_nothing() -> None:
    assert results(STANDS, course(2.6, 2.59, noise=-0.2)) != ["won"]


def test_a_healed_figure_wins_where_the_loss_cannot_move_yet() -> None:
    sick, healed = course(2.3, 2.3, -1, figure=-9.0), course(2.31, 2.31, figure=-0.5)
    assert results(sick, healed, pathology="vanishing_gradients") == ["won"]
    assert results(sick, healed, pathology="unstable_training") != ["won"]


def test_a_healed_figure_does_not_make_up_for_what_was_learned() -> None:
    sick, forgot = course(0.3, 0.3, -1, figure=-9.0), course(2.3, 2.3, figure=-0.5)
    assert results(sick, forgot, pathology="vanishing_gradients") != ["won"]


def test_a_user_s_score_is_judged_in_place_of_the_loss() -> None:
    assert results(course(2.3, 2.3, -1, score=0.9), course(2.0, 2.0, score=1.2)) == ["lost"]
    assert results(course(2.3, 2.3, -1, score=0.9), course(2.5, 2.5, score=0.5)) == ["won"]


def chosen(*arms: Branch, control: Branch = STANDS, pathology: str = "plateau") -> int | None:
    best = winner(pathology, control, against(control, *arms, pathology=pathology))
    return None if best is None else best.branch.rung


def test_the_lowest_loss_is_committed() -> None:
    assert chosen(course(2.3, 2.0, 0), course(2.3, 1.0, 1), course(2.3, 1.5, 2)) == 1


def test_of_winners_that_hardly_differ_the_first_is_committed() -> None:
    assert chosen(course(2.3, 1.01, 0), course(2.3, 1.0, 1)) == 0


def test_what_heals_the_figure_goes_before_what_only_lowers_the_loss() -> None:
    arms = course(2.3, 2.1, 0, figure=-8.9), course(2.3, 2.2, 1, figure=-0.5)
    assert chosen(*arms, control=course(2.3, 2.3, -1, figure=-9.0), pathology="vanishing_gradients") == 1


def test_where_the_noise_leaves_several_the_better_figure_decides_and_then_the_calmer_step() -> None:
    sick = course(2.3, 2.3, -1, figure=-9.0)
    other = tuple((2.0 + 0.5 * np.random.default_rng(8).normal(size=STEPS)).tolist())
    a, b = course(2.3, 2.0, 0, figure=-6.0), Branch("b", 1, other, figure=-0.5)
    assert {w.result for w in against(sick, a, b, pathology="vanishing_gradients")} == {"won"}
    assert chosen(a, b, control=sick, pathology="vanishing_gradients") == 1
    assert chosen(replace(a, pace=0.5), replace(b, figure=-6.0, pace=0.01), control=sick) == 1


def test_a_far_lower_loss_goes_before_a_slightly_better_figure_and_a_calmer_step() -> None:
    sick = course(2.3, 2.3, -1, figure=0.0)
    fast, calm = course(2.3, 1.0, 0, figure=0.8, pace=0.1), course(2.3, 2.2, 1, figure=1.0, pace=0.01)
    assert chosen(fast, calm, control=sick, pathology="dead_units") == 0


def test_where_nothing_wins_nothing_is_committed() -> None:
    assert chosen(course(2.3, 3.0, 0), course(2.3, 2.3, 1), Branch("refused", 2, refused="no")) is None
    assert chosen() is None
