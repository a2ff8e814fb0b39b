"""Units that no input wakes are found; zeros, masks and sparse units are not deadness."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.diagnoses import causes
from supervisor.records import SILENCE_LENGTHS, Finding, Layer, Snapshot
from tests.diagnoses.shots import ANATOMY, examined, sample, shot, usual
from tests.diagnoses.trainings import Watched, deep, digits_like, he, optimizers, watch

every_optimizer = pytest.mark.parametrize("optimizer", optimizers())


def silent(share: float, longest: int = 128) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return shares for four sites, of which the second has `share` of its units silent for `longest` samples."""
    shares = np.zeros((4, len(SILENCE_LENGTHS)), np.float32)
    shares[1, [length <= longest for length in SILENCE_LENGTHS]] = share
    return shares


def run(
    share: float, *, losses: Callable[[int], float] = lambda _t: 1.0, longest: int = 128, **changes: Any
) -> list[Snapshot]:
    shots = [
        shot(t, losses(t), 1.0, sample=dataclasses.replace(sample(), silent=silent(share, longest)))
        for t in range(1, 80)
    ]
    return [dataclasses.replace(now, **changes) for now in shots]


def dead(snapshots: list[Snapshot]) -> list[Finding]:
    return [finding for finding in examined(snapshots) if finding.pathology == "dead_units"]


def test_a_layer_silent_throughout_is_found_with_the_capacity_it_cost() -> None:
    finding = dead(run(1.0))[0]
    assert finding.where == ("b",)
    assert finding.evidence["shares"] == {"act_b": 1.0}
    assert finding.evidence["capacity_lost"] == pytest.approx(0.25)
    assert finding.evidence["samples"] >= 16


def test_most_of_a_layer_is_harm_only_where_nothing_is_learned() -> None:
    assert dead(run(0.85)) != []
    assert dead(run(0.85, losses=lambda t: 2.0 - t / 100)) == []


def test_a_solved_task_needs_no_units() -> None:
    assert dead(run(0.85, losses=lambda t: 1.0 if t < 25 else 0.01)) == []


@pytest.mark.parametrize("longest", [1, 4, 8])
def test_a_silence_shorter_than_the_window_is_none(longest: int) -> None:
    assert dead(run(1.0, longest=longest)) == []


def test_outputs_and_frozen_layers_are_not_judged() -> None:
    outputs = dataclasses.replace(
        ANATOMY, sites=tuple(dataclasses.replace(site, hidden=False) for site in ANATOMY.sites)
    )
    assert dead(run(1.0, anatomy=outputs)) == []
    frozen = dataclasses.replace(ANATOMY, layers=tuple(Layer(name, "linear", 100) for name in "axcde"))
    assert dead(run(1.0, anatomy=frozen)) == []


def test_an_absolute_share_of_zeros_may_be_asked_for() -> None:
    found = examined(usual(12), dead_units={"zero_fraction": 0.2})
    assert {finding.pathology for finding in found} == {"dead_units"}


# Real trainings


@pytest.mark.parametrize("death", [1, 33, 60])
@every_optimizer
def test_units_pushed_below_zero_are_found_soon_after_their_death(optimizer: str, death: int) -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))
    layer = model.get_submodule("2")
    assert isinstance(layer, nn.Linear)

    def kill(tick: int) -> None:
        if tick == death:
            with torch.no_grad():
                layer.bias.fill_(-10.0)
                layer.weight.mul_(0.1)

    seen = watch(model, optimizers()[optimizer](model), digits_like(), death + 40, between=kill)
    finding = seen.of("dead_units")[0]
    assert finding.tick - death <= 26  # 10 ticks to the next sample, and 16 samples
    assert finding.where[0] == "2"
    assert finding.evidence["shares"]["3"] == 1.0


# Why they died


def causes_of(seen: Watched) -> list[str]:
    found = seen.of("dead_units")
    assert found != []
    assert found[0].cause == found[0].causes[0].name
    return [cause.name for cause in found[0].causes]


def test_biases_set_from_elsewhere_are_told_from_a_large_step() -> None:
    """The steps were small when the units fell silent all at once."""
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))

    def silence(tick: int) -> None:
        if tick == 45:
            with torch.no_grad():
                model.get_submodule("2").bias.fill_(-20.0)  # type: ignore[operator]

    seen = watch(model, optimizers()["adam"](model), digits_like(), 90, between=silence)
    assert causes_of(seen)[0] == causes.NEGATIVE_BIAS
    facts = seen.of("dead_units")[0]
    assert facts.causes[0].evidence["silent_since"] == 51
    assert facts.evidence["gradients"]["2"] == 0.0


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.5, 0.9), lambda p: torch.optim.RMSprop(p, 0.5)])
def test_a_rate_that_kills_in_the_first_steps_is_the_cause(make: Callable[[Any], Optimizer]) -> None:
    torch.manual_seed(1)
    model = he(deep(nn.ReLU, depth=4))
    seen = watch(model, make(model.parameters()), digits_like(seed=1), 80)
    assert causes_of(seen)[0] == causes.LARGE_LR
    assert seen.of("dead_units")[0].causes[0].evidence["largest_step"] > 0.1


def test_a_rate_that_rises_in_mid_run_is_the_cause() -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def raise_it(tick: int) -> None:
        optimizer.param_groups[0]["lr"] = 1.0 if 60 <= tick < 80 else 1e-3

    assert causes_of(watch(model, optimizer, digits_like(), 130, between=raise_it))[0] == causes.LARGE_LR


def test_units_that_were_built_silent_have_their_biases_or_weights_to_blame() -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))
    nn.init.constant_(model.get_submodule("0").bias, -30.0)  # type: ignore[arg-type]
    ranked = causes_of(watch(model, optimizers()["adam"](model), digits_like(), 40))
    assert ranked == [causes.NEGATIVE_BIAS, causes.INITIALIZATION]


@pytest.mark.parametrize(("scale", "lr"), [(30.0, 0.05), (100.0, 0.01)])
def test_inputs_out_of_scale_come_before_the_rate_they_make_too_large(scale: float, lr: float) -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))
    raw = ((scale * x, y) for x, y in digits_like())
    ranked = causes_of(watch(model, torch.optim.SGD(model.parameters(), lr, momentum=0.9), raw, 60))
    assert ranked[:2] == [causes.INPUT_SCALE, causes.LARGE_LR]


def test_a_death_in_many_small_steps_shows_the_activation() -> None:
    """The biases sink a little at each tick, as under a drift of the data: no step kills, all of them do."""
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))

    def sink(_tick: int) -> None:
        with torch.no_grad():
            model.get_submodule("2").bias.sub_(0.05)  # type: ignore[operator]

    ranked = causes_of(watch(model, torch.optim.SGD(model.parameters(), 1e-4), digits_like(), 260, between=sink))
    assert ranked[0] == causes.ACTIVATION


def test_before_their_death_nothing_is_found() -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))
    seen = watch(model, optimizers()["sgd"](model), digits_like(), 150)
    assert seen.findings == []


def with_zeros(share: float) -> nn.Module:
    """Return a network whose hidden units are awake on few inputs each, but all of them on some."""
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=3, width=64))
    first = model.get_submodule("0")
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        inputs = torch.cat([next(data)[0] for data in [digits_like()] for _ in range(20)])
        first.bias.copy_(-torch.quantile(first(inputs), share, dim=0))
    return model


@pytest.mark.parametrize("share", [0.5, 0.7, 0.87])
@every_optimizer
def test_zeros_alone_are_healthy(share: float, optimizer: str) -> None:
    model = with_zeros(share)
    seen = watch(model, optimizers()[optimizer](model), digits_like(), 150)
    shown = seen.snapshots[0].sample
    assert shown is not None
    assert shown.zeros[0] == pytest.approx(share, abs=0.1)
    assert seen.findings == []


@pytest.mark.parametrize("size", [1, 4, 16, 64])
def test_units_that_wake_on_one_input_in_two_hundred_are_alive(size: int) -> None:
    """Each unit answers one of 200 inputs only; batches, however small, add up until that can be told."""
    torch.manual_seed(0)
    lookup = nn.Linear(200, 200)
    model = nn.Sequential(lookup, nn.ReLU(), nn.Linear(200, 5))
    with torch.no_grad():
        lookup.weight.copy_(2.0 * torch.eye(200))
        lookup.bias.fill_(-1.0)
    targets = torch.randint(5, (200,))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            chosen = torch.randint(200, (size,))
            yield F.one_hot(chosen, 200).float(), targets[chosen]

    seen = watch(model, torch.optim.SGD(model.parameters(), lr=0.01), batches(), 300)
    shown = seen.snapshots[0].sample
    assert shown is not None
    assert shown.zeros[0] > 0.99
    assert seen.of("dead_units") == []


class Padded(nn.Module):
    """A sequence model half of whose positions are padding, masked to zero, with dropout everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 16, padding_idx=0)
        self.a, self.b, self.head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        mask = (x > 0).unsqueeze(-1)
        hidden = F.dropout(F.relu(self.a(self.embed(x))) * mask, 0.5)
        hidden = F.dropout(F.relu(self.b(hidden)) * mask, 0.5)
        return self.head((hidden * mask).sum(1) / mask.sum(1))  # type: ignore[no-any-return]


@every_optimizer
def test_padding_and_dropout_are_healthy(optimizer: str) -> None:
    torch.manual_seed(0)
    model = Padded()

    def batches() -> Iterator[Tensor]:
        while True:
            x = torch.randint(1, 10, (32, 8))
            x[:, 3:] *= (torch.rand(32, 5) < 0.2).long()
            yield x

    seen = watch(
        model, optimizers()[optimizer](model), batches(), 150, loss=lambda x: F.cross_entropy(model(x), x[:, 0])
    )
    assert seen.findings == []


def test_an_output_that_is_mostly_zero_is_healthy() -> None:
    """Non-negative regression with rare events: the last ReLU is the output, and 0 is the right answer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 8), nn.ReLU())
    optimizer: Optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    data = iter(lambda: torch.randn(64, 6), None)
    seen = watch(
        model,
        optimizer,
        data,
        200,
        loss=lambda x: F.mse_loss(model(x), F.relu(x.sum(1, keepdim=True) - 8).expand(-1, 8)),
    )
    assert seen.findings == []
