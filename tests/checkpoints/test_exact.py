"""What else belongs to an exact state: each thing that a training may hold comes back bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from supervisor.checkpoints import Checkpoint, capture, named, restore
from supervisor.errors import UsageError
from supervisor.run import TrainingRun
from tests.entry.trainings import frozen, lab, run_of


class Lookahead(torch.optim.Optimizer):
    """Slow weights beside a wrapped optimizer, and a counter in an attribute (Zhang et al., 2019)."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner, self.count = inner, 0
        self.slow = [p.detach().clone() for group in inner.param_groups for p in group["params"]]
        super().__init__(inner.param_groups, {})
        self.param_groups = inner.param_groups

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inner.step()
        self.count += 1
        if self.count % 3 == 0:
            weights = [p for group in self.param_groups for p in group["params"]]
            with torch.no_grad():
                for slow, weight in zip(self.slow, weights, strict=True):
                    slow.lerp_(weight, 0.5)
                    weight.copy_(slow)


class OutOfPlace(torch.optim.Optimizer):
    """State that is not all tensors, a list of them, and moments assigned anew in every step."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1, "history": 3})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["past"] = (*state.get("past", ()), p.grad.clone())[-group["history"] :]
                state["norms"] = [*state.get("norms", []), float(p.grad.norm())]
                state["sign"] = np.sign(state["norms"][-1] - 1)
                state["mean"] = torch.stack(state["past"]).mean(0)
                p.data = p.data - group["lr"] * state["mean"]
            group["lr"] = group["lr"] * 0.99


def grouped(*groups: dict[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "tensor lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "several groups": lambda p: grouped({"params": p[:1], "lr": torch.tensor(0.01)}, {"params": p[1:], "lr": 0.1}),
    "lookahead": lambda p: Lookahead(torch.optim.Adam(p, lr=0.01)),
    "out of place": OutOfPlace,
    "lbfgs": lambda p: torch.optim.LBFGS(p, max_iter=2, history_size=3),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
}


def step(run: TrainingRun, loss: Callable[[], Tensor]) -> float:
    def closure() -> Tensor:
        run.drop_gradients()
        value = loss()
        value.backward()
        return value

    value = closure()
    for optimizer in run.optimizers:
        optimizer.step(closure) if isinstance(optimizer, torch.optim.LBFGS) else optimizer.step()
    return float(value.detach())


def values(run: TrainingRun) -> dict[str, Any]:
    """Everything in the state, by name; tensors as bytes."""
    found: dict[str, Any] = {}
    for name, value in named(run, capture(run)):
        assert name not in found, name
        found[name] = repr(value) if isinstance(value, np.ndarray | tuple) else frozen(value)
    return found


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_any_optimizer_goes_on_as_it_did(kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    optimizer = OPTIMIZERS[kind](list(model.parameters()))
    run = TrainingRun(model, (optimizer,))
    x = torch.randn(16, 5)

    def loss() -> Tensor:
        return F.mse_loss(model(x).sum(1), x.prod(1))

    for _ in range(4):
        step(run, loss)
    kept, before = capture(run), values(run)
    first = [step(run, loss) for _ in range(5)]
    assert values(run) != before
    for _ in range(2):
        restore(run, kept)
        assert values(run) == before
        assert [step(run, loss) for _ in range(5)] == first


def test_an_averaged_model_comes_back_though_its_parameters_lie_outside() -> None:
    training = lab("adam")
    ema = AveragedModel(training.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    run = run_of(training)
    vars(run)["registered"] = {"ema": ema}
    weight = ema.module.get_parameter("first.weight")

    def move() -> None:
        with torch.no_grad():
            training.model.get_parameter("first.weight").mul_(1.5)
        ema.update_parameters(training.model)

    move()
    kept, before = capture(run), frozen(ema.state_dict())
    move()
    ema.eval()
    restore(run, kept)
    assert frozen(ema.state_dict()) == before
    assert ema.training
    assert ema.module.get_parameter("first.weight") is weight


class Sampler:
    """A thing with a state of its own, as a user may register."""

    def __init__(self) -> None:
        self.seen, self.weights, self.order = 0, torch.ones(4), {"next": [3, 1]}

    def state_dict(self) -> dict[str, Any]:
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def test_anything_with_a_state_dict_comes_back_as_often_as_asked() -> None:
    run, sampler = run_of(lab("adam")), Sampler()
    vars(run)["registered"] = {"sampler": sampler}
    kept = capture(run)
    for _ in range(2):
        sampler.seen += 1
        sampler.weights.mul_(2)
        sampler.order["next"].append(7)
        restore(run, kept)
        assert (sampler.seen, sampler.weights.tolist(), sampler.order) == (0, [1.0] * 4, {"next": [3, 1]})


def test_registered_generators_come_back() -> None:
    """Held by the user's code alone, a generator is not found: it has to be registered."""
    own, new, old, plain = torch.Generator(), np.random.default_rng(1), np.random.RandomState(1), random.Random(1)
    run = run_of(lab("adam"))
    vars(run)["registered"] = {"torch": own, "numpy": new, "legacy numpy": old, "python": plain}

    def draw() -> list[float]:
        shared = [torch.rand(1).item(), float(np.random.rand()), random.random()]  # noqa: NPY002
        return [*shared, float(new.random()), float(old.rand()), plain.random(), torch.rand(1, generator=own).item()]

    draw()
    kept = capture(run)
    first = draw()
    restore(run, kept)
    assert draw() == first


def test_a_grad_scaler_comes_back() -> None:
    run = run_of(lab("adam"))
    scaler = vars(run)["scaler"] = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    scaler.scale(torch.ones(()))
    kept = capture(run)
    scaler.update(64.0)
    restore(run, kept)
    assert scaler.get_scale() == 8.0


class Counted(nn.Module):
    """State that `state_dict` carries by `get_extra_state` alone."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.count = nn.Linear(2, 2), 0

    def get_extra_state(self) -> dict[str, int]:
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def test_extra_state_of_modules_comes_back() -> None:
    model = Counted()
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
    kept = capture(run)
    model.count = 9
    restore(run, kept)
    assert model.count == 0


class Odd(nn.Module):
    """Tensors of all kinds: complex, half, bfloat16, empty, channels last, shared, sparse, expanded, conjugated."""

    def __init__(self) -> None:
        super().__init__()
        self.wave = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))
        self.short = nn.Parameter(torch.randn(4).half())
        self.brain = nn.Parameter(torch.randn(4).bfloat16())
        self.none = nn.Parameter(torch.zeros(0, 3))
        self.last = nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last))
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.register_buffer("graph", torch.eye(3).to_sparse())
        self.register_buffer("rows", torch.eye(3).to_sparse_csr())
        self.register_buffer("mask", torch.ones(1, 1).expand(3, 3))
        self.register_buffer("mirror", torch.randn(3, dtype=torch.complex64).conj())
        self.register_buffer("turned", torch.randn(3, 5).t())


def scramble(model: nn.Module) -> None:
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.layout is torch.strided and not (tensor.dim() and 0 in tensor.stride()):
                tensor.fill_(7)
    model.graph = (2 * torch.ones(3, 3)).to_sparse()
    model.rows = (3 * torch.ones(3, 3)).to_sparse_csr()


def dense(model: nn.Module) -> list[Any]:
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return [(n, t.dtype, t.layout, (t.to_dense() if t.layout is not torch.strided else t).tolist()) for n, t in tensors]


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_of_all_kinds_come_back() -> None:
    torch.manual_seed(0)
    model = Odd()
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
    kept, before = capture(run), dense(model)
    for spare in (None, kept):
        scramble(model)
        assert dense(model) != before
        restore(run, kept)
        assert dense(model) == before
        assert model.b.weight is model.a.weight
        kept = capture(run, spare)


def test_copies_of_shared_parameters_are_made_once() -> None:
    model = Odd()
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
    assert sum(live is model.a.weight for live, _ in capture(run).parameters) == 1


def test_a_parameter_that_only_the_optimizer_knows_comes_back() -> None:
    model, temperature = nn.Linear(2, 2), torch.zeros((), requires_grad=True)
    parameters: list[Tensor] = [*model.parameters(), temperature]
    run = TrainingRun(model, (torch.optim.SGD([{"params": parameters}], lr=0.1),))
    kept = capture(run)
    temperature.data.fill_(3.0)
    restore(run, kept)
    assert temperature.item() == 0.0


def test_a_group_that_was_added_since_is_gone_with_its_moments() -> None:
    """So that code which adds it at some step can do so again."""
    model, late = nn.Linear(2, 2), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam(model.parameters())
    run = TrainingRun(model, (optimizer,))
    kept = capture(run)
    optimizer.add_param_group({"params": [late], "lr": 0.5})
    for p in (*model.parameters(), late):
        p.grad = torch.ones_like(p)
    optimizer.step()
    restore(run, kept)
    assert len(optimizer.param_groups) == 1
    assert late not in optimizer.state
    optimizer.add_param_group({"params": [late], "lr": 0.5})


def test_a_parameter_that_was_added_to_a_group_since_is_gone_from_it() -> None:
    model, late = nn.Linear(2, 2), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam(model.parameters())
    params = optimizer.param_groups[0]["params"]
    run = TrainingRun(model, (optimizer,))
    kept = capture(run)
    params.append(late)
    restore(run, kept)
    assert optimizer.param_groups[0]["params"] is params
    assert len(params) == 2


def test_a_group_that_was_taken_away_since_is_there_again() -> None:
    model = nn.Linear(2, 2)
    split: list[dict[str, Any]] = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.5}]
    optimizer = torch.optim.SGD(split, lr=0.1)
    run = TrainingRun(model, (optimizer,))
    kept = capture(run)
    del optimizer.param_groups[1]
    restore(run, kept)
    assert optimizer.param_groups[1]["params"] == [model.bias]
    assert optimizer.param_groups[1]["lr"] == 0.5


def test_a_parameter_that_was_replaced_since_hangs_where_it_was() -> None:
    model = nn.Linear(2, 2)
    weight = model.weight
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
    kept, before = capture(run), weight.tolist()
    model.weight = nn.Parameter(torch.zeros(2, 2))
    restore(run, kept)
    assert model.weight is weight
    assert weight.tolist() == before


def test_a_parameter_that_was_reshaped_since_has_its_shape_again() -> None:
    model = nn.Linear(2, 2)
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
    kept, before = capture(run), model.weight.tolist()
    model.weight.data = torch.zeros(1, 2)
    restore(run, kept)
    assert model.weight.tolist() == before


def test_a_lazy_module_is_refused_until_it_has_seen_a_batch() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = TrainingRun(model, (optimizer,))
    with pytest.raises(UsageError, match="Run one batch through the model"):
        capture(run)
    model(torch.randn(4, 2))
    restore(run, capture(run))


def storages(state: Checkpoint) -> list[int]:
    return [t.data_ptr() for t in state.shelf.tensors if t.numel()]


def test_a_spare_gives_its_memory_and_one_that_is_held_does_not() -> None:
    run = run_of(lab("adam"))
    spare = capture(run)
    hold = spare.hold()
    assert not {*storages(spare)} & {*storages(capture(run, spare))}
    del hold
    assert storages(capture(run, spare)) == storages(spare)


def test_copies_may_lie_on_another_device() -> None:
    """Asked for by name: what lies there comes back to where it belongs."""
    training = lab("adam")
    run = run_of(training)
    before = values(run)
    kept = capture(run, place=torch.device("cpu"))
    scrambled = training.model.get_parameter("first.weight")
    scrambled.data.fill_(0.0)
    restore(run, kept)
    assert values(run) == before
