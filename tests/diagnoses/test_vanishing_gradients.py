"""Exponential decay over the depth in a training that stands is found; no healthy network is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.diagnoses import causes
from supervisor.records import Finding, Snapshot
from tests.diagnoses.recurrent import Reader, places
from tests.diagnoses.shots import examined, sample, shot
from tests.diagnoses.trainings import Batch, deep, digits_like, he, optimizers, watch

DECAY = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
every_optimizer = pytest.mark.parametrize("optimizer", optimizers())


def vanishing(snapshots: list[Snapshot]) -> list[Finding]:
    return [finding for finding in examined(snapshots) if finding.pathology == "vanishing_gradients"]


def standing(norms: list[float], fall: float = 0.0, ticks: int = 80) -> list[Snapshot]:
    """Return a run whose layers have these gradient norms, and whose loss falls by `fall` a tick."""
    rows = np.array(norms, np.float32)
    return [shot(t, 1.0 - fall * t, 1.0, grad_norms=rows, sample=sample()) for t in range(1, ticks)]


def test_a_decay_over_the_depth_with_a_loss_that_stands_is_found() -> None:
    finding = vanishing(standing(DECAY))[0]
    assert finding.tick == 31
    assert finding.where == ("a", "b")
    assert finding.evidence["value"] == pytest.approx(4.0)
    assert finding.evidence["factor_per_layer"] == pytest.approx(0.1)
    assert finding.evidence["r2"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("norms", "fall"),
    [
        (DECAY, 0.005),
        ([1e-2] * 5, 0.0),
        ([1e-6, 1.0, 1.0, 1.0, 1.0], 0.0),
        ([*reversed(DECAY)], 0.0),
        ([0.0, 0.0, 1e-4, 1e-3, 1e-2], 0.0),
        ([0.0] * 5, 0.0),
    ],
    ids=["a decay that learns", "no decay", "one small layer", "growth", "two layers without gradient", "no gradient"],
)
def test_half_an_illness_is_none(norms: list[float], fall: float) -> None:
    assert vanishing(standing(norms, fall)) == []


def test_a_solved_task_is_no_illness() -> None:
    solved = [
        shot(t, 1.0 if t < 20 else 0.01, 1.0, grad_norms=np.array(DECAY, np.float32), sample=sample())
        for t in range(1, 120)
    ]
    assert vanishing(solved) == []


def test_an_absolute_limit_looks_at_the_first_layer() -> None:
    found = examined(standing(DECAY), vanishing_gradients={"min_norm": 1e-5})
    assert {finding.where for finding in found} == {("a",)}
    assert examined(standing(DECAY), vanishing_gradients={"min_norm": 1e-7}) == []


# Real trainings


def found(model: nn.Module, make: Callable[[nn.Module], Optimizer], ticks: int = 60) -> list[Finding]:
    seen = watch(model, make(model), digits_like(), ticks)
    assert {finding.pathology for finding in seen.findings} <= {"vanishing_gradients"}
    return seen.findings


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@every_optimizer
def test_twelve_sigmoid_layers_are_found_within_60_ticks(optimizer: str, scale: float) -> None:
    torch.manual_seed(0)
    model = deep(nn.Sigmoid)
    lr = 1e-3 if optimizer == "adam" else 1e-3 / scale  # for SGD the scale of the loss is a scale of the step
    made = optimizers(lr)[optimizer](model)
    seen = watch(model, made, digits_like(), 60, loss=lambda b: scale * F.cross_entropy(model(b[0]), b[1]))
    finding = seen.of("vanishing_gradients")[0]
    assert finding.cause == "activation functions"
    assert 0.14 <= finding.evidence["factor_per_layer"] <= 0.25
    assert finding.evidence["activations"] == "sigmoid"
    assert finding.where[0] == "0"
    assert seen.findings == seen.of("vanishing_gradients")


@every_optimizer
def test_weights_that_are_too_small_are_found_with_their_own_cause(optimizer: str) -> None:
    torch.manual_seed(0)
    model = deep(nn.ReLU)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.normal_(module.bias, std=0.02)
    seen = watch(model, optimizers(1e-5)[optimizer](model), digits_like(), 60)
    assert {finding.cause for finding in seen.of("vanishing_gradients")} == {"poor initialization"}


class Residual(nn.Module):
    """Twelve blocks x + f(x) with sigmoids inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(20, 32), nn.Linear(32, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.Sigmoid(), nn.Linear(32, 32)) for _ in range(12)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + 0.2 * block(x)
        return self.head(x)  # type: ignore[no-any-return]


class Plain(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(20, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.sigmoid(self.a(x)))  # type: ignore[no-any-return]


def normalized() -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(11):
        layers += [nn.Linear(20 if i == 0 else 32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 4))


def glorot(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, gain=5 / 3)
    return model


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "relu and he": lambda: he(deep(nn.ReLU)),
    "residual": Residual,
    "batch norm": normalized,
    "deep tanh": lambda: glorot(deep(nn.Tanh)),
    "shallow sigmoid": Plain,
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", HEALTHY)
@every_optimizer
def test_a_network_that_learns_is_never_found(optimizer: str, name: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = HEALTHY[name]()
    seen = watch(model, optimizers()[optimizer](model), digits_like(seed=seed), 150)
    assert seen.findings == []
    assert seen.losses[-1] < 0.5 * seen.losses[0]


@every_optimizer
def test_a_network_that_cannot_learn_but_whose_gradients_arrive_is_never_found(optimizer: str) -> None:
    """Random labels: the loss stands, and no layer is to blame for it."""
    torch.manual_seed(0)
    model = he(deep(nn.ReLU))
    noise = iter(lambda: (torch.randn(64, 20), torch.randint(4, (64,))), None)
    seen = watch(model, optimizers(1e-4)[optimizer](model), noise, 150)
    assert seen.of("vanishing_gradients") == []


class Odd(nn.Module):
    """A healthy network with a frozen layer, an unused one, an embedding, a tied weight and biases before norms."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.frozen = nn.Linear(16, 16).requires_grad_(requires_grad=False)
        self.unused = nn.Linear(16, 16)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(16) for _ in range(4))
        self.head = nn.Linear(16, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.frozen(self.embed(x))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = torch.tanh(norm(layer(hidden)))
        return self.head(hidden)  # type: ignore[no-any-return]


@every_optimizer
def test_odd_parameters_are_no_illness(optimizer: str) -> None:
    torch.manual_seed(0)
    model = Odd()
    trained = [p for p in model.parameters() if p.requires_grad]
    made = torch.optim.Adam(trained, 1e-3) if optimizer == "adam" else torch.optim.SGD(trained, 0.03, momentum=0.9)
    numbers = iter(lambda: torch.randint(10, (64,)), None)
    seen = watch(model, made, numbers, 120, loss=lambda x: F.cross_entropy(model(x), (x + 1) % 10))
    assert seen.findings == []
    assert seen.losses[-1] < seen.losses[0]


def test_a_decay_is_found_beside_odd_parameters() -> None:
    """Frozen, unused and normalized layers are no points of the decay, and do not hide it."""
    torch.manual_seed(0)
    chain = deep(nn.Sigmoid)
    model = nn.ModuleDict(
        {"unused": nn.Linear(3, 3), "frozen": nn.Linear(20, 20).requires_grad_(requires_grad=False), "chain": chain}
    )
    seen = watch(
        model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3), digits_like(), 60,
        loss=lambda b: F.cross_entropy(chain(model["frozen"](b[0])), b[1]),
    )  # fmt: skip
    finding = seen.of("vanishing_gradients")[0]
    assert finding.evidence["zero_layers"] == 1


# The chain rule on this very network, through time, and below where the loss began


@every_optimizer
def test_the_evidence_is_the_chain_rule_of_this_network(optimizer: str) -> None:
    """Factors by layer, their product, what the activations let through, and the bound they allow: 0.25 a sigmoid."""
    torch.manual_seed(0)
    model = deep(nn.Sigmoid)
    finding = watch(model, optimizers()[optimizer](model), digits_like(), 60).of("vanishing_gradients")[0]
    factors = finding.evidence["amplification"]
    assert list(factors) == [str(2 * i) for i in range(11)]
    assert all(0.02 < factor < 0.3 for factor in factors.values())
    assert finding.evidence["amplification_product"] == pytest.approx(np.prod(list(factors.values())))
    assert finding.evidence["activation_bound"] == 0.25**11
    assert finding.evidence["amplification_product"] < finding.evidence["activation_slopes"] <= 0.25**11
    named = {cause.name: cause.weight for cause in finding.causes}
    assert finding.causes[0].name == finding.cause == causes.ACTIVATION
    assert named.keys() >= {causes.INITIALIZATION, causes.DEPTH, causes.NO_SKIPS}


def test_the_early_layers_updates_are_told_and_an_optimizer_that_rescales_them_hides_nothing() -> None:
    """Under SGD the first layer does not move; under Adam it does, and learns nothing all the same."""
    moves = {}
    for name, make in optimizers().items():
        torch.manual_seed(0)
        model = deep(nn.Sigmoid)
        evidence = watch(model, make(model), digits_like(), 60).of("vanishing_gradients")[0].evidence
        moves[name] = evidence["first_update_ratio"] / evidence["last_update_ratio"]
    assert moves["sgd"] < 1e-4
    assert moves["adam"] > 1e-2


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@every_optimizer
def test_a_recurrent_layer_that_cannot_look_back_is_found(optimizer: str, kind: type[nn.RNN]) -> None:
    torch.manual_seed(0)
    model = Reader(kind)
    finding = watch(model, optimizers()[optimizer](model), places(64, 0), 160).of("vanishing_gradients")[0]
    assert finding.where == ("rnn",)
    assert finding.cause == causes.RECURRENCE
    assert finding.evidence["time_steps"] == 64
    assert finding.evidence["factor_per_step"] < 0.8


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_recurrent_layer_that_need_not_look_back_is_left_alone(kind: type[nn.RNN]) -> None:
    torch.manual_seed(0)
    model = Reader(kind)
    seen = watch(model, optimizers(3e-3)["adam"](model), places(64, -1), 300)
    assert seen.findings == []
    assert seen.losses[-1] < 0.5 * seen.losses[0]


def test_a_regression_that_only_finds_the_mean_of_its_targets_is_stuck() -> None:
    """Its loss falls to a fraction of where it began, for the output bias alone learned."""

    def shifted() -> Iterator[Batch]:
        for x, _ in digits_like():
            yield x, 5.0 + x[:, :4]

    torch.manual_seed(0)
    model = deep(nn.Sigmoid)
    seen = watch(model, optimizers(1e-2)["adam"](model), shifted(), 200, loss=lambda b: F.mse_loss(model(b[0]), b[1]))
    finding = seen.of("vanishing_gradients")[0]
    assert seen.losses[-1] < 0.2 * seen.losses[0]
    assert finding.evidence["loss_stands"] == "below it"
    assert finding.evidence["limit"] > 4
