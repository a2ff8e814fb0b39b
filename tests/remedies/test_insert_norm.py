"""Normalizing what hidden layers hand to their activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from supervisor.errors import RemedyRefused
from supervisor.remedies.insert_norm import InsertNorm
from supervisor.run import TrainingRun
from tests.remedies.sick import OPTIMIZERS, decision, fingerprint, seen, take_step
from tests.remedies.surgery import MODELS, Loop, Tokens, ill, images, promises, replayed, sequence, x


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_it_is_exact_reversible_and_can_be_rebuilt(model: str, optimizer: str) -> None:
    promises("insert_norm", MODELS[model], optimizer)


def test_it_stands_between_the_layer_and_its_activation_and_spares_the_output() -> None:
    run = ill(Loop)
    effect = InsertNorm().apply(run, decision())
    model = run.model
    assert isinstance(model, Loop)
    assert set(effect.changes) == {"first", "layers.0", "layers.1", "layers.2", "layers.3"}
    seen_by_sigmoid = model.layers[2](torch.randn(64, 8))
    assert torch.allclose(seen_by_sigmoid.mean(1), torch.zeros(64), atol=1e-5)
    assert torch.allclose(seen_by_sigmoid.var(1, correction=0), torch.ones(64), atol=0.05)


def test_a_layer_normalized_already_is_left_whichever_side_the_norm_is_on() -> None:
    run = ill(images)
    assert set(InsertNorm().apply(run, decision()).changes) == {"1", "3"}


def test_the_anatomy_tells_the_new_norms_at_once_and_the_sensor_agrees() -> None:
    run = ill(sequence)
    InsertNorm().apply(run, decision())
    again = seen(run.model, x())
    assert [layer.name for layer in run.anatomy.layers] == [layer.name for layer in again.anatomy.layers]
    assert [layer.kind for layer in run.anatomy.layers].count("norm") == 4


class Written(nn.Module):
    """A recurrence written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.feed, self.back, self.head = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 6)
        for step in x.view(len(x), -1, 2).unbind(1):
            h = torch.tanh(self.feed(step) + self.back(h))
        return self.head(h)  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feed, self.rnn, self.head = nn.Linear(2, 6), nn.GRU(6, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(F.relu(self.feed(x.view(len(x), -1, 2))))[0][:, -1])  # type: ignore[no-any-return]


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(1, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.one(x.view(-1, 1, 2, 2))))
        return self.head(F.relu(self.two(x)).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "batch", "norms"),
    [
        (Loop, 32, {"LayerNorm"}),
        (Loop, 4, {"LayerNorm"}),
        (images, 32, {"BatchNorm2d"}),
        (images, 4, {"GroupNorm"}),
        (Tokens, 32, {"LayerNorm"}),
        (Written, 32, {"LayerNorm"}),
        (Recurrent, 32, {"LayerNorm"}),
        (Grouped, 32, {"GroupNorm"}),
    ],
)
def test_auto_takes_the_norm_that_belongs_there(make: type[nn.Module], batch: int, norms: set[str]) -> None:
    effect = InsertNorm().apply(ill(make, batch=batch), decision())
    assert {after for _, after in effect.changes.values()} == norms


def test_the_norm_has_device_type_and_mode_of_its_layer() -> None:
    model = Loop().double().eval()
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), 0.1),))
    run.anatomy = seen(Loop(), x()).anatomy
    InsertNorm().apply(run, decision())
    norm = model.get_submodule("first.norm")
    assert not norm.training
    assert all(p.dtype == torch.float64 for p in norm.parameters())


def test_without_a_batch_to_run_again_the_order_of_layers_decides() -> None:
    run = ill(images)
    run.replay = None
    assert set(InsertNorm().apply(run, decision()).changes) == {"1", "3"}


def test_new_parameters_join_the_group_of_the_bias_with_its_rate_and_schedule() -> None:
    torch.manual_seed(0)
    model = Loop()
    vectors = [p for p in model.parameters() if p.ndim == 1]
    matrices = [p for p in model.parameters() if p.ndim > 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
    scheduler = LambdaLR(optimizer, [lambda _: 1.0, lambda step: 0.5**step])
    run = replayed(seen(model, x(), optimizer=optimizer), x())
    run.scheduler = scheduler
    InsertNorm().apply(run, decision())
    new = {id(p) for name, p in model.named_parameters() if ".norm." in name}
    assert new == {id(p) for p in optimizer.param_groups[1]["params"][-len(new) :]}
    take_step(run, x())
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]


def test_beside_an_optimizer_for_matrices_vectors_join_the_other() -> None:
    torch.manual_seed(0)
    hidden = [nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 8, bias=False), nn.Tanh()]
    model = nn.Sequential(*hidden, nn.Linear(8, 2))
    matrices = [p for p in model.parameters() if p.ndim > 1]
    both = (torch.optim.SGD(matrices, 0.1), torch.optim.Adam([p for p in model.parameters() if p.ndim == 1]))
    run = TrainingRun(model, both)
    run.anatomy = seen(model, x()).anatomy
    InsertNorm().apply(replayed(run, x()), decision())
    assert len(both[0].param_groups[0]["params"]) == 3
    assert len(both[1].param_groups[0]["params"]) == 5


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()), "no hidden Linear or Conv layer"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)), "being normalized"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)), "being normalized"),
    ],
)
def test_it_refuses_and_changes_nothing(make: object, why: str) -> None:
    assert callable(make)
    run = ill(make)
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match=why):
        InsertNorm().apply(run, decision())
    assert fingerprint(run) == before


def test_an_optimizer_that_cannot_take_vectors_in_is_named() -> None:
    model = Loop()
    run = TrainingRun(model, (torch.optim.LBFGS(model.parameters()),))
    run.anatomy = seen(model, x()).anatomy
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="LBFGS cannot take new vectors in"):
        InsertNorm().apply(replayed(run, x()), decision())
    assert fingerprint(run) == before


class Sideways(Loop):
    """Its layers' weights are used, their forward never called."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, *self.layers):
            x = torch.sigmoid(F.linear(x, layer.weight, layer.bias))
        return F.linear(x, self.head.weight)


def test_a_norm_that_no_pass_goes_through_is_taken_back() -> None:
    run = ill(Sideways)
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match=r"no hidden|not visible"):
        InsertNorm().apply(run, decision())
    assert fingerprint(run) == before


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.head = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.value(x)) * torch.sigmoid(self.gate(x)))  # type: ignore[no-any-return]


def test_gates_are_spared() -> None:
    with pytest.raises(RemedyRefused, match="no hidden"):
        InsertNorm().apply(ill(Gate), decision())


def test_gradients_reach_the_first_of_many_sigmoid_layers() -> None:
    """What the insertion is for (Ioffe & Szegedy, 2015)."""
    hidden = [m for _ in range(12) for m in (nn.Linear(16, 16), nn.Sigmoid())]
    run = ill(lambda: nn.Sequential(nn.Linear(4, 16), nn.Sigmoid(), *hidden, nn.Linear(16, 2)))

    def first() -> float:
        run.model.zero_grad()
        run.model(x()).square().mean().backward()
        gradient = next(iter(run.model.parameters())).grad
        assert gradient is not None
        return float(gradient.norm())

    before = first()
    InsertNorm().apply(run, decision())
    assert first() > 1e4 * before
