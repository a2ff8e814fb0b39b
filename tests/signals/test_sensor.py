"""What the sensor measures is what a plain computation gives, at the promised price and without a trace."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from supervisor.run import TrainingRun
from supervisor.signals import Sensor, figures, sensor
from tests.signals.watching import FunctionalMlp, Watching, every_model, layer, made, mlp, norm, own, vectors


@every_model
def test_gradient_and_weight_norms_equal_a_plain_computation(name: str) -> None:
    model, batch = made(name)
    watched = Watching(model)
    weights = copy.deepcopy(model)
    now = watched.tick(batch())
    names = [layer.name for layer in now.anatomy.layers]
    gradients = {n: norm([p.grad for p in own(model, n) if p.grad is not None]) for n in names}
    assert now.grad_norms == pytest.approx(np.array([gradients[n] for n in names]), rel=1e-5)
    assert now.grad_norm == pytest.approx(norm([p.grad for p in model.parameters() if p.grad is not None]), rel=1e-5)
    assert now.sample is not None
    assert now.sample.weight_norms == pytest.approx(np.array([norm(own(weights, n)) for n in names]), rel=1e-5)
    assert [layer.size for layer in now.anatomy.layers] == [sum(p.numel() for p in own(model, n)) for n in names]
    assert sum(layer.size for layer in now.anatomy.layers) == sum(p.numel() for p in model.parameters())


def test_the_schedule_is_dense_at_the_start_and_sparse_after_it() -> None:
    watched = Watching(mlp(), every=10)
    sampled = [now.tick for now in (watched.tick(vectors()) for _ in range(32)) if now.sample is not None]
    assert sampled == [1, 2, 3, 4, 11, 21, 31]


def test_a_long_quiet_run_is_sampled_every_25th_of_its_length_and_what_looks_odd_as_often_as_ever() -> None:
    watching = Watching(mlp(), every=10)
    x = vectors()
    seen = [now.tick for _ in range(600) if (now := watching.tick(x)).sample is not None]
    assert seen[:8] == [1, 2, 3, 4, 11, 21, 31, 41]
    assert 20 <= seen[-1] - seen[-2] <= 24
    watching.sensor.closer = True
    odd = [now.tick for _ in range(40) if (now := watching.tick(x)).sample is not None]
    assert np.diff(odd).max() == 10


def test_while_a_layer_is_silent_every_tick_is_sampled_but_not_for_ever() -> None:
    model = mlp()
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=1e-3),))
    watched = Watching(model)
    watched.run, watched.sensor = run, Sensor(run, 10, suspicious=0.5)
    with torch.no_grad():
        layer(model, "0").bias.fill_(-50.0)
    sampled = [now.tick for now in (watched.tick(vectors()) for _ in range(100)) if now.sample is not None]
    assert sampled[:64] == list(range(1, 65))
    assert len(sampled) < 72


def test_the_loss_is_the_mean_over_the_micro_batches() -> None:
    watched = Watching(nn.Linear(6, 3))
    batches = [vectors(), 3 * vectors()]
    expected = np.mean([watched.model(batch).square().mean().item() for batch in batches])
    assert watched.tick(*batches).loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("every", [1, 10])
def test_one_transfer_a_tick(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*of: Any) -> Any:
        calls.append(1)
        return figures.read(*of)

    monkeypatch.setattr(sensor, "read", counted)
    watched = Watching(mlp(), every=every)
    for _ in range(12):
        watched.tick(vectors())
    assert len(calls) == 12


def hooks() -> list[int]:
    """Return how many global hooks of each kind are installed."""
    kept = [value for key, value in sorted(vars(torch_module).items()) if key.startswith("_global_") and "hook" in key]
    return [len(value) for value in kept if isinstance(value, dict)]


def traces(model: nn.Module) -> list[str]:
    """Return what hangs on the modules and tensors of a model that was not there when it was built."""
    on_modules = [
        f"{path}.{key}" for path, m in model.named_modules() for key, v in vars(m).items() if "hook" in key and v
    ]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return on_modules + [f"{name}.{key}" for name, t in tensors for key in vars(t)]


class Casting(nn.Module):
    """Uses parameters and buffers in ways that return the very same object, and writes into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)
        self.register_buffer("mean", torch.zeros(16))
        self.mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        weight = self.a.weight.float()  # already float: returns the parameter itself
        hidden = torch.relu(torch.nn.functional.linear(x.float(), weight, self.a.bias.contiguous()))
        self.mean.mul_(0.9).add_(hidden.detach().mean(0), alpha=0.1)
        return self.b(hidden - self.mean.float())  # type: ignore[no-any-return]


def test_a_sampled_tick_leaves_nothing_behind() -> None:
    model, x, before = Casting(), vectors(), hooks()
    watched = Watching(model)
    for _ in range(3):
        watched.tick(x)
    assert hooks() == before
    assert traces(model) == []
    assert not vars(x)
    assert torch._C._len_torch_function_stack() == 0


def test_an_exception_in_the_forward_leaves_nothing_behind_either() -> None:
    model, before = Casting(), hooks()

    def failing(batch: Tensor) -> Tensor:
        raise ArithmeticError(model(batch).shape)

    watched = Watching(model, failing)
    with pytest.raises(ArithmeticError):
        watched.tick(vectors())
    assert hooks() == before
    assert traces(model) == []
    assert torch._C._len_torch_function_stack() == 0
    watched.loss = lambda batch: model(batch).square().mean()
    assert [site.name for site in watched.tick(vectors()).anatomy.sites] == [":relu:0"]


@every_model
def test_between_ticks_the_model_can_be_copied_and_saved(name: str) -> None:
    model, batch = made(name)
    watched = Watching(model)
    watched.tick(batch())
    clone = copy.deepcopy(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    calls: list[Any] = []
    watched.sensor.probe.saw = lambda *args: calls.append(args)  # type: ignore[method-assign]
    for copied in (clone, saved):
        copied(batch()).square().mean().backward()
    assert calls == []
    assert watched.tick(batch()).finite


@every_model
def test_watching_changes_not_one_bit_and_draws_no_random_number(name: str) -> None:
    trained = []
    for every in (1, None):
        model, batch = made(name)
        if every is None:
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            for _ in range(5):
                optimizer.zero_grad()
                model(batch()).abs().square().mean().backward()
                optimizer.step()
        else:
            watched = Watching(model)
            for _ in range(5):
                watched.tick(batch())
        trained.append((model.state_dict(), torch.get_rng_state()))
    (mine, my_random), (theirs, their_random) = trained
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert torch.equal(my_random, their_random)


def test_layers_come_in_the_order_of_the_forward_pass() -> None:
    class Backwards(FunctionalMlp):
        def __init__(self) -> None:
            super().__init__()
            self._modules = dict(reversed(self._modules.items()))

    now = Watching(Backwards()).tick(vectors())
    assert [layer.name for layer in now.anatomy.layers] == ["a", "b", "c"]
    assert [layer.kind for layer in now.anatomy.layers] == ["linear"] * 3


def test_frozen_and_unused_parameters_and_biases_before_a_norm_are_no_upset() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(6, 6).requires_grad_(requires_grad=False)
            self.one, self.norm, self.two, self.unused = (
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3), nn.Linear(4, 4),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return self.two(torch.relu(self.norm(self.one(self.frozen(x)))))  # type: ignore[no-any-return]

    watched = Watching(Odd())
    now = [watched.tick(vectors()) for _ in range(3)][-1]
    assert [layer.name for layer in now.anatomy.layers] == ["one", "norm", "two", "unused"]
    assert now.finite
    assert now.grad_norms[3] == 0.0
    assert now.sample is not None
    assert now.sample.update_norms[3] == 0.0
    assert np.isfinite(now.sample.update_ratios).all()
