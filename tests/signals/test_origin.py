"""Where a non-finite value began: told in its own tick, without running anything again."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.records import Snapshot
from tests.signals.watching import MODELS, Loss, Watching, cnn, layer, made, mlp, vectors

NAN, INF = math.nan, math.inf


def watching(model: nn.Module, loss: Loss | None = None, optimizer: Optimizer | None = None) -> Watching:
    """Return a watched model whose loss is shown to the sensor before backward, as the loop does it."""
    compute = loss or (lambda batch: model(batch).abs().square().mean())

    def shown(batch: Any) -> Tensor:
        value = compute(batch)
        seen.run.before_backward(value)
        return value

    seen = Watching(model, shown, optimizer=optimizer)
    return seen


def origin(now: Snapshot) -> tuple[str, str]:
    return now.origin, now.origin_layer


def with_one(value: float, batch: Tensor) -> Tensor:
    bad = batch.clone()
    bad.view(-1)[3] = value
    return bad


class Act(nn.Module):
    """An activation that a user wrote."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def with_act(function: Callable[[Tensor], Tensor]) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), Act(function), nn.Linear(12, 3))


# The batch


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e25])
@pytest.mark.parametrize("name", [name for name in MODELS if "transformer" not in name])
def test_a_bad_input_is_told_whatever_the_model(name: str, value: float) -> None:
    model, batch = made(name)
    now = watching(model, lambda x: (model(x) * 1e20).square().sum()).tick(with_one(value, batch()))
    assert origin(now) == ("input", "")


def squared(model: nn.Module) -> Loss:
    return lambda batch: F.mse_loss(model(batch[0]), batch[1])


@dataclass
class Pair:
    x: Tensor
    label: Tensor


Named = collections.namedtuple("Named", ["x", "y"])  # noqa: PYI024 - as users write it
SHAPES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda x, y: (x, y),
    "named tuple": Named,
    "mapping": lambda x, y: {"deep": {"x": x}, "labels": [y, "text", None]},
    "numpy": lambda x, y: (x.numpy(), y.numpy()),
    "object": Pair,
}


@pytest.mark.parametrize("bad", ["input", "target"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_bad_input_is_told_from_a_bad_target(shape: str, bad: str) -> None:
    """By what the forward pass shows, where it was seen, else by the place in the batch."""
    x, y = vectors(), torch.randn(64, 3)
    x, y = (with_one(NAN, x), y) if bad == "input" else (x, with_one(NAN, y))
    batch = SHAPES[shape](x, y)
    for watch in (watching, Watching):
        model = mlp()
        loss = partial(lambda model, _batch: F.mse_loss(model(x), y), model)
        assert origin(watch(model, loss).tick(batch)) == (bad, "")


def test_a_target_that_the_batch_does_not_hold_is_told_by_the_forward_pass() -> None:
    x, y = vectors(), torch.randn(64, 3)
    model, other = mlp(), mlp()
    assert watching(model, lambda _: F.mse_loss(model(x), with_one(NAN, y))).tick(0).origin == "target"
    assert watching(other, lambda _: F.mse_loss(other(with_one(INF, x)), y)).tick(0).origin == "input"


def test_the_bad_one_of_several_micro_batches_is_found() -> None:
    model = mlp()
    assert watching(model).tick(vectors(), with_one(NAN, vectors()), vectors()).origin == "input"


def test_a_mask_of_minus_infinity_in_the_batch_is_not_blamed() -> None:
    model = mlp()
    mask = torch.zeros(64, 3).masked_fill(torch.rand(64, 3) < 0.3, -INF)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        return (torch.softmax(model(batch[0]) + batch[1], 1).sum() - 64.0).abs().log()

    assert watching(model, loss).tick((vectors(), mask)).origin == "loss"


# Forward and loss


@pytest.mark.parametrize(
    "function", [lambda x: torch.exp(1e4 * x.abs()), lambda x: x * 1e30 * 1e30, lambda x: x / 0.0, lambda x: x.sqrt()],
    ids=["exp", "product", "division by zero", "root"],
)  # fmt: skip
def test_the_first_layer_in_forward_is_named(function: Callable[[Tensor], Tensor]) -> None:
    model = with_act(function)
    now = watching(model, lambda batch: F.cross_entropy(model(batch[0]), batch[1])).tick(
        (vectors(), torch.randint(3, (64,)))
    )
    assert not math.isfinite(now.loss)
    assert origin(now) == ("forward", "2")


@pytest.mark.parametrize("path", ["0", "2", "4"])
def test_a_layer_that_overflows_by_itself_is_named(path: str) -> None:
    model = mlp()
    with torch.no_grad():
        layer(model, path).weight.fill_(3e38)
    now = watching(model, lambda x: torch.softmax(model(x.abs()), 1).square().sum()).tick(vectors())
    assert origin(now) == ("forward", path)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "log of zero": lambda out: torch.log(out * 0.0).mean(),
    "exp": lambda out: torch.exp(1e4 * out.abs()).mean(),
    "square": lambda out: (out * 1e30).square().mean(),
    "zero by zero": lambda out: (out.sum() * 0.0) / (out.sum() * 0.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_overflows_behind_the_last_layer_is_the_loss(name: str) -> None:
    model = mlp()
    assert origin(watching(model, lambda x: LOSSES[name](model(x))).tick(vectors())) == ("loss", "")


def test_nothing_is_run_again_and_no_random_number_is_drawn() -> None:
    model, calls = cnn(), []

    def loss(batch: Tensor) -> Tensor:
        calls.append(1)
        return torch.log(model(batch) * 0.0).mean()

    torch.manual_seed(3)
    batch = torch.randn(16, 1, 6, 6)
    seen = watching(model, loss)
    seen.tick(batch)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    batch = torch.randn(16, 1, 6, 6)
    model(batch)
    assert len(calls) == 1
    assert torch.equal(after, torch.get_rng_state())


# Backward


@pytest.mark.parametrize("path", ["0", "2", "4"])
def test_the_first_layer_in_backward_is_named(path: str) -> None:
    """The slope of a root at 0 is infinite: layers before it suffer, those behind it do not."""
    model = mlp()
    layers = [layer(model, name) for name in ("0", "2", "4")]

    def loss(x: Tensor) -> Tensor:
        out = x
        for name, module in zip(("0", "2", "4"), layers, strict=True):
            out = module(out)
            out = out + (out * 0.0).abs().sqrt() if name == path else torch.tanh(out)
        return out.square().mean()

    now = watching(model, loss).tick(vectors())
    assert math.isfinite(now.loss)
    assert origin(now) == ("backward", path)


# What is kept between ticks


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_ruined_parameter_is_named(value: float) -> None:
    model = mlp()
    with torch.no_grad():
        layer(model, "2").weight[0, 0] = value
    assert origin(watching(model).tick(vectors())) == ("parameters", "2")


def adam(model: nn.Module) -> Optimizer:
    return torch.optim.Adam(model.parameters())


def test_the_state_that_ruined_a_parameter_is_told_from_the_parameter() -> None:
    model = mlp()
    optimizer = adam(model)
    seen = watching(model, optimizer=optimizer)
    seen.tick(vectors())
    optimizer.state[layer(model, "2").weight]["exp_avg"].fill_(NAN)
    assert origin(seen.tick(vectors())) == ("optimizer", "2")  # sampled: seen before it does harm
    assert origin(seen.tick(vectors())) == ("optimizer", "2")


def test_what_a_bad_batch_left_behind_is_a_ruined_parameter_not_the_optimizers_fault() -> None:
    model = mlp()
    seen = watching(model, optimizer=adam(model))
    seen.tick(vectors())
    assert [seen.tick(x).origin for x in (with_one(NAN, vectors()), vectors())] == ["input", "parameters"]


def test_ruined_running_statistics_are_found_though_loss_and_gradients_are_finite() -> None:
    model = cnn()
    norm = model.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    seen = watching(model)
    seen.tick(torch.randn(16, 1, 6, 6))
    norm.running_var.fill_(NAN)
    now = seen.tick(torch.randn(16, 1, 6, 6))
    assert now.finite
    assert origin(now) == ("buffers", "1")


def test_statistics_that_a_bad_input_has_just_ruined_are_not_blamed() -> None:
    assert watching(cnn()).tick(with_one(NAN, torch.randn(16, 1, 6, 6))).origin == "input"


class Masked(nn.Module):
    """A causal mask and a best-so-far as buffers: born infinite."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.triu(torch.full((6, 6), -INF), 1))
        self.register_buffer("best", torch.tensor(INF))
        self.body = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.body(x) + self.mask[0], -1)


def test_what_was_born_infinite_is_not_blamed() -> None:
    model = Masked()
    assert origin(watching(model).tick(vectors())) == ("", "")
    assert watching(model, lambda x: torch.log(model(x).sum() * 0.0)).tick(vectors()).origin == "loss"


def test_frozen_layers_leave_no_graph_but_are_not_taken_for_the_input() -> None:
    model = with_act(lambda x: x)
    layer(model, "0").requires_grad_(requires_grad=False)
    with torch.no_grad():
        layer(model, "0").weight.fill_(3e38)
    assert watching(model).tick(vectors().abs()).origin == "forward"


@pytest.mark.parametrize("name", MODELS)
def test_a_healthy_tick_has_no_origin(name: str) -> None:
    model, batch = made(name)
    seen = watching(model, optimizer=adam(model))
    assert [origin(seen.tick(batch())) for _ in range(3)] == [("", "")] * 3


def test_without_a_look_at_the_loss_the_walk_still_tells_what_it_can() -> None:
    """A loop of the user's own, that does not show the loss before backward."""
    model = mlp()
    assert Watching(model, lambda x: torch.log(model(x) * 0.0).mean()).tick(vectors()).origin == "loss"
    assert Watching(mlp()).tick(with_one(NAN, vectors())).origin == "input"
