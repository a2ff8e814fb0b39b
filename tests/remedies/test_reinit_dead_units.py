"""Reviving dead units of real models, the function unchanged."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.remedies.reinit_dead_units import ReinitDeadUnits
from supervisor.run import TrainingRun
from tests.remedies.sick import OPTIMIZERS, decision, fingerprint, seen, sick_run

FINDING = decision("dead_units")


def killed(layer: nn.Linear | nn.Conv2d, units: list[int]) -> None:
    """Let units die as they do in life: a large negative bias."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias[units] = -100.0


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)))))  # type: ignore[no-any-return]


class Cnn(nn.Module):
    """Conv, BatchNorm, grouped conv, flatten, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.head = nn.Linear(6 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.one(x)))
        return self.head(F.relu(self.two(x)).flatten(1))  # type: ignore[no-any-return]


def alive(run: TrainingRun, inputs: Tensor) -> dict[str, int]:
    """Return how many units a fresh look sees awake, by producer."""
    again = seen(run.model, inputs)
    return {s.producer or s.name: int((~again.silent_units[s.name]).sum()) for s in again.anatomy.sites}


def images() -> Tensor:
    return torch.randn(16, 1, 4, 4)


def test_dead_units_live_again_and_the_function_stays() -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(64, 4)
    killed(model.a, [0, 3, 5])
    run = seen(model, x)
    before = model(x)
    effect = ReinitDeadUnits().apply(run, FINDING)
    assert effect.changes["a (units re-initialized)"] == (0, 3)
    assert torch.allclose(model(x), before, atol=1e-6)
    assert alive(run, x)["a"] == 8
    assert run.voided


def test_gradient_reaches_the_outgoing_weights_and_then_the_incoming_ones() -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(64, 4)
    killed(model.a, [0, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = seen(model, x, optimizer=optimizer)
    ReinitDeadUnits().apply(run, FINDING)
    rows = model.a.weight[[0, 3]].clone()
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert bool((model.a.weight[[0, 3]] != rows).any(1).all())


def test_living_units_and_their_moments_are_not_touched() -> None:
    run = sick_run()
    fc1 = run.module("fc1")
    assert isinstance(fc1, nn.Linear)
    state = run.optimizers[0].state[fc1.weight]
    weight, moment = fc1.weight.clone(), state["exp_avg"].clone()
    step = float(state["step"])
    ReinitDeadUnits().apply(run, FINDING)
    dead, columns = run.silent_units[":relu:0"], run.silent_units["act"].repeat_interleave(16)
    kept = ~dead[:, None] & ~columns[None]
    assert torch.equal(fc1.weight[kept], weight[kept])
    assert torch.equal(state["exp_avg"][kept], moment[kept])
    assert not state["exp_avg"][~kept].any()
    assert float(state["step"]) == step


def test_the_flattened_blocks_of_dead_channels_are_zeroed_and_only_towards_the_living() -> None:
    run = sick_run()
    ReinitDeadUnits().apply(run, FINDING)
    blocks = dict(run.model.named_parameters())["fc1.weight"].view(6, 4, 16)
    channels, rows = run.silent_units["act"], run.silent_units[":relu:0"]
    assert not blocks[~rows][:, channels].any()
    assert bool(blocks[~rows][:, ~channels].all())
    assert bool(blocks[rows].all()), "towards reborn units the weights are fresh"


def test_a_dead_channel_with_its_norm_and_grouped_reader_lives_again() -> None:
    torch.manual_seed(0)
    model, x = Cnn(), images()
    with torch.no_grad():
        model.norm.bias[[1, 2]] = -50.0
    killed(model.two, [0, 5])
    run = seen(model, x)
    before = model(x)
    effect = ReinitDeadUnits().apply(run, FINDING)
    assert effect.changes == {"one (units re-initialized)": (0, 2), "two (units re-initialized)": (0, 2)}
    assert torch.allclose(model(x), before, atol=1e-5)
    assert model.norm.weight[[1, 2]].eq(1).all()
    assert not model.norm.bias[[1, 2]].any()
    assert alive(run, x) == {"one": 4, "two": 6}


def test_a_network_dead_through_and_through_can_learn_again() -> None:
    """Outgoing weights towards dead units stay fresh, else the next layer would get nothing for ever."""
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(64, 4)
    killed(model.a, list(range(8)))
    killed(model.b, list(range(6)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    run = seen(model, x, optimizer=optimizer)
    before = model(x)
    ReinitDeadUnits().apply(run, FINDING)
    assert torch.allclose(model(x), before, atol=1e-6)
    target = x[:, :2]
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_moments_of_new_rows_and_columns_are_zero(optimizer: str) -> None:
    run = sick_run(optimizer)
    ReinitDeadUnits().apply(run, FINDING)
    dead = run.silent_units[":relu:0"]
    parameters = dict(run.model.named_parameters())
    moments = [v for v in run.state_of(parameters["fc1.weight"]).values() if v.shape == parameters["fc1.weight"].shape]
    assert moments
    assert all(not moment[dead].any() and moment[~dead].any() for moment in moments)


class Residual(nn.Module):
    """The head reads the sum of two activations: no column is one layer's own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.a(x))
        return self.c(first + F.relu(self.b(first)))  # type: ignore[no-any-return]


def test_a_reader_of_several_layers_is_left_alone_with_the_reason() -> None:
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(32, 4)
    killed(model.b, [0])
    run = seen(model, x)
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="c reads the units of other layers too"):
        ReinitDeadUnits().apply(run, FINDING)
    assert fingerprint(run) == before


@pytest.mark.parametrize(
    ("part", "why"),
    [("a", "a: the layer is frozen"), ("b", "b, which reads its units, is frozen"), (None, "no dead units are known")],
)
def test_it_refuses_what_it_cannot_write(part: str | None, why: str) -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(32, 4)
    if part is not None:
        killed(model.a, [0])
    run = seen(model, x)
    if part is not None:
        frozen = {id(p) for p in model.get_submodule(part).parameters()}
        run.parameters = [p for p in run.parameters if id(p) not in frozen]
    else:
        run.silent_units = {}
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match=why):
        ReinitDeadUnits().apply(run, FINDING)
    assert fingerprint(run) == before


def test_what_can_be_revived_is_and_the_rest_is_named() -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(32, 4)
    killed(model.a, [0])
    killed(model.b, [1])
    run = seen(model, x)
    run.parameters = [p for p in run.parameters if p is not model.c.weight]
    effect = ReinitDeadUnits().apply(run, FINDING)
    assert set(effect.changes) == {"a (units re-initialized)", "b"}
    assert "frozen" in effect.changes["b"][1]
