"""More weight decay where weights grow, none where it crushes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from supervisor.errors import RemedyRefused
from supervisor.remedies.weight_decay import WeightDecay
from supervisor.run import TrainingRun
from tests.remedies.sick import decision, fingerprint

KINDS: dict[str, Callable[..., Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamw-fused": lambda groups, **more: torch.optim.AdamW(groups, fused=True, **more),
    "rmsprop": torch.optim.RMSprop,
}


def run_with(*decays: float, kind: str = "sgd", lr: float = 0.1) -> TrainingRun:
    """Return a run with one group of a weight of ones for each decay."""
    model = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in decays])
    for part in model:
        nn.init.ones_(part.weight)  # type: ignore[arg-type]
    groups = [{"params": list(m.parameters()), "weight_decay": d} for m, d in zip(model, decays, strict=True)]
    return TrainingRun(model, (KINDS[kind](groups, lr=lr),))


def step(run: TrainingRun) -> list[float]:
    """Take a step without any gradient of the loss; return one element of each weight."""
    for parameter in run.parameters:
        parameter.grad = torch.zeros_like(parameter)
    run.take_step(1.0)
    return [parameter.flatten()[0].item() for parameter in run.parameters]


@pytest.mark.parametrize("kind", KINDS)
def test_a_factor_of_0_lets_no_weight_shrink_any_more(kind: str) -> None:
    run = run_with(0.5, 0.1, kind=kind)
    effect = WeightDecay(factor=0.0).apply(run, decision())
    assert step(run) == [1.0, 1.0]
    assert [group["weight_decay"] for group in run.optimizers[0].param_groups] == [0.5, 0.1]
    assert effect.changes["weight_decay"] == ("0.1 to 0.5", 0.0)
    effect.undo()
    assert all(value < 1.0 for value in step(run))


@pytest.mark.parametrize("kind", KINDS)
def test_a_factor_moves_what_a_decay_set_by_hand_would_move(kind: str) -> None:
    run, by_hand = run_with(0.01, kind=kind), run_with(0.1, kind=kind)
    WeightDecay(factor=10.0).apply(run, decision())
    assert [step(run) for _ in range(3)] == [step(by_hand) for _ in range(3)]


def test_a_group_without_decay_beside_groups_with_it_stays_without() -> None:
    run = run_with(0.01, 0.0)
    WeightDecay(factor=2.0, add=0.03).apply(run, decision())
    assert step(run) == pytest.approx([1.0 - 0.1 * 0.05, 1.0])


def test_where_no_group_decays_only_an_addition_asks_for_it() -> None:
    run = run_with(0.0, 0.0)
    with pytest.raises(RemedyRefused, match="set add above 0"):
        WeightDecay().apply(run, decision())
    WeightDecay(add=0.02).apply(run, decision())
    assert step(run) == pytest.approx([0.998, 0.998])


def test_set_twice_it_acts_on_what_was_in_force_and_the_groups_of_intention_stay() -> None:
    run = run_with(0.02, 0.0)
    WeightDecay(factor=0.0).apply(run, decision())
    effect = WeightDecay(factor=1.0, add=0.5).apply(run, decision())
    assert effect.changes["weight_decay"] == (0.0, "0 to 0.5")
    assert step(run) == pytest.approx([0.95, 1.0])


def test_the_users_own_decay_schedule_goes_on() -> None:
    run = run_with(0.01)
    WeightDecay(factor=10.0).apply(run, decision())
    run.optimizers[0].param_groups[0]["weight_decay"] = 0.02
    assert step(run) == pytest.approx([1.0 - 0.1 * 0.2])


class Signs(Optimizer):
    """An optimizer of the user's own, that knows no decay."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every weight by the rate."""


def test_an_optimizer_that_knows_no_decay_is_refused_and_one_beside_it_that_does_is_served() -> None:
    model = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(2)])
    signs = Signs(model[0].parameters(), lr=0.1)
    with pytest.raises(RemedyRefused, match="no param_group of Signs"):
        WeightDecay(add=0.1).apply(TrainingRun(model, (signs,)), decision())
    run = TrainingRun(model, (signs, torch.optim.SGD(model[1].parameters(), lr=0.1)))
    assert WeightDecay(add=0.1).apply(run, decision()).changes["weight_decay"] == (0.0, 0.1)
    step(run)
    assert "weight_decay" not in signs.param_groups[0]


@pytest.mark.parametrize(("decay", "factor", "lr"), [(0.1, 100.0, 0.1), (0.01, 1.0, 0.1)])
def test_a_decay_that_turns_weights_over_or_changes_nothing_is_refused(decay: float, factor: float, lr: float) -> None:
    run = run_with(decay, lr=lr)
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match=r"lower factor or add|set factor or add"):
        WeightDecay(factor=factor).apply(run, decision())
    assert fingerprint(run) == before
