"""A training that is held back is found with what holds it; one that merely stands, has arrived or plays is not."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
)

from supervisor.diagnoses import causes as c
from supervisor.records import Finding
from tests.diagnoses.shots import ANATOMY, examined, full, sample, shot
from tests.diagnoses.test_healthy import CASES, images, noisy, random_labels, sequences
from tests.diagnoses.trainings import Watched, deep, digits_like, he, watch

Made = Callable[[nn.Module], Optimizer]
Schedule = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
Loss = Callable[[nn.Module, Any], Tensor]


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def sgd(lr: float, momentum: float = 0.9, **more: Any) -> Made:
    return lambda m: SGD(_trained(m), lr, momentum, **more)


def adam(lr: float, **more: Any) -> Made:
    return lambda m: Adam(_trained(m), lr, **more)


def adamw(lr: float, **more: Any) -> Made:
    return lambda m: AdamW(_trained(m), lr, **more)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def mlp() -> nn.Module:
    return he(deep(nn.ReLU, depth=3))


@dataclass(frozen=True)
class Setup:
    """A training, and what holds it back: nothing, if it is well."""

    model: Callable[[], nn.Module] = mlp
    optimizer: Made = lambda m: Adam(_trained(m), 1e-3)
    data: Callable[[int], Iterator[Any]] = lambda seed: digits_like(seed=seed)
    loss: Loss = cross_entropy
    schedule: Schedule | None = None
    cause: str = ""
    by: int = 31  # the tick at which it has to be found

    def run(self, seed: int, ticks: int) -> Watched:
        torch.manual_seed(seed)
        model = self.model()
        optimizer = self.optimizer(model)
        schedule = self.schedule(optimizer) if self.schedule else None
        losses: list[float] = []

        def between(tick: int) -> None:
            if isinstance(schedule, ReduceLROnPlateau) and tick > 1:
                schedule.step(losses[-1])
            elif schedule is not None and tick > 1:
                schedule.step()

        def compute(batch: Any) -> Tensor:
            value = self.loss(model, batch)
            losses.append(float(value.detach()))
            return value

        return watch(model, optimizer, self.data(seed), ticks, loss=compute, between=between)


# What is sick


def constant(value: float, model: nn.Module | None = None) -> nn.Module:
    model = model or mlp()
    for p in model.parameters():
        nn.init.constant_(p, value if p.ndim > 1 else 0.0)
    return model


class Detached(nn.Module):
    """Two layers of three are cut off, and the third has nothing to tell classes by."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = deep(nn.Tanh, depth=5), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).detach() * 1e-4)  # type: ignore[no-any-return]


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))


def saturated(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the error of outputs so far out that their sigmoid's derivative is 0 in float32."""
    return (torch.sigmoid(model(batch[0]).sum(1) - 200.0) - 1.0).square().mean()


def squashed_twice(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]).softmax(1), batch[1])


SICK: dict[str, Setup] = {
    "a rate of 1e-6, adam": Setup(optimizer=adam(1e-6), cause=c.SMALL_LR),
    "a rate of 3e-6, adamw": Setup(optimizer=adamw(3e-6), cause=c.SMALL_LR, by=51),
    "a rate of 1e-6, sgd": Setup(optimizer=sgd(1e-6), cause=c.SMALL_LR),
    "a rate of 1e-6, convolutions": Setup(conv, sgd(1e-6), images, cause=c.SMALL_LR),
    "a rate of 0": Setup(optimizer=sgd(0.0), cause=c.SMALL_LR),
    "a rate halved at each of the first ticks": Setup(
        optimizer=sgd(0.05), schedule=lambda o: ExponentialLR(o, 0.5), cause=c.DECAYED_LR, by=41
    ),
    "milestones counted in epochs": Setup(
        lambda: deep(nn.ReLU, depth=4), sgd(0.03, 0.0),
        schedule=lambda o: MultiStepLR(o, [60, 65, 70, 75], 0.1), cause=c.DECAYED_LR, by=101,
    ),
    "a linear decay that ends too early": Setup(
        lambda: deep(nn.ReLU, depth=4), sgd(0.02, 0.0),
        schedule=lambda o: LambdaLR(o, lambda t: max(0.0, 1 - t / 100)), cause=c.DECAYED_LR, by=141,
    ),
    "all weights alike": Setup(lambda: constant(0.05), cause=c.SYMMETRY, by=21),
    "all weights alike, convolutions": Setup(
        lambda: constant(0.05, conv()), sgd(0.05), images, cause=c.SYMMETRY, by=21
    ),
    "all weights zero": Setup(lambda: constant(0.0), cause=c.SYMMETRY, by=21),
    "a graph cut in two": Setup(Detached, cause=c.NO_GRADIENT, by=21),
    "a sigmoid without a slope": Setup(loss=saturated, cause=c.NO_GRADIENT, by=21),
    "weight decay of 30": Setup(optimizer=adamw(2e-3, weight_decay=30.0), cause=c.WEIGHT_DECAY, by=51),
    "weight decay of 1, sgd": Setup(optimizer=sgd(0.05, 0.0, weight_decay=1.0), cause=c.WEIGHT_DECAY, by=51),
    "softmax before cross-entropy": Setup(optimizer=sgd(0.002, 0.0), loss=squashed_twice, cause=c.MISMATCH, by=51),
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", SICK)
def test_what_holds_a_training_back_is_named_soon(name: str, seed: int) -> None:
    setup = SICK[name]
    found = setup.run(seed, setup.by).of("plateau")
    assert found != []
    assert found[0].cause == setup.cause
    assert found[0].evidence["figure"]


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_loss_hides_nothing(scale: float) -> None:
    """Adam takes the same steps whatever the loss is multiplied by."""
    setup = Setup(optimizer=adam(1e-6, eps=1e-30), loss=lambda m, b: scale * cross_entropy(m, b))
    assert {finding.cause for finding in setup.run(0, 61).of("plateau")} == {c.SMALL_LR}


def test_units_that_differ_after_the_first_step_are_no_illness() -> None:
    """One layer of zeros between others: nothing arrives before it for a step, then everything does."""

    def model() -> nn.Module:
        made = mlp()
        nn.init.zeros_(made.get_submodule("4").weight)  # type: ignore[arg-type]
        return made

    assert Setup(model).run(0, 60).of("plateau") == []


# What is well


class ModularAddition(nn.Module):
    """Embeds two numbers and adds them modulo 13: it learns its samples by heart long before the rule."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(13, 16), nn.Linear(32, 48), nn.Linear(48, 13)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.embed(x).flatten(1))))  # type: ignore[no-any-return]


def sums(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    pairs = torch.cartesian_prod(torch.arange(13), torch.arange(13))
    chosen = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:60]]
    return itertools.repeat((chosen, chosen.sum(1) % 13))


def nothing_to_learn(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one full batch of noise for ever: the gradient itself goes to zero."""
    generator = torch.Generator().manual_seed(seed)
    return itertools.repeat((torch.randn(2000, 5, generator=generator), torch.randn(2000, 1, generator=generator)))


class Adapted(nn.Module):
    """A frozen network with low-rank adapters, whose outer halves begin at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.base = mlp().requires_grad_(requires_grad=False)
        self.down = nn.ParameterList(nn.Parameter(0.2 * torch.randn(4, n)) for n in (20, 32, 32))
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(n, 4)) for n in (32, 32, 4))

    def forward(self, x: Tensor) -> Tensor:
        for layer, down, up in zip((self.base[0], self.base[2], self.base[4]), self.down, self.up, strict=True):  # type: ignore[index]
            x = layer(x) + x @ down.T @ up.T
            x = F.relu(x) if up.shape[0] > 4 else x
        return x


class Gated(nn.Module):
    """Residual blocks whose last layers, and a head whose weights, begin at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(20, 24), nn.Linear(24, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 24)) for _ in range(4))
        for last in (*(block[2] for block in self.blocks), self.head):  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)  # type: ignore[no-any-return]


class Adversaries(nn.Module):
    """A generator and a discriminator; with `turns` they step by turns, the generator at every so many ticks."""

    def __init__(self, turns: int = 0) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(), nn.Linear(24, 1))
        self.turns, self.tick = turns, 0

    def both(self, _batch: object) -> Tensor:
        self.tick += 1
        made, real = self.generator(torch.randn(64, 4)), 0.5 * torch.randn(64, 2) + 2.0
        judge = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(made.detach())).mean()
        if self.turns and self.tick % self.turns:
            return judge
        frozen = copy.deepcopy(self.discriminator).requires_grad_(requires_grad=False)
        fool = F.softplus(-frozen(made)).mean()
        return fool if self.turns else judge + fool


def frozen() -> nn.Module:
    model = mlp()
    for name in ("0", "2"):
        model.get_submodule(name).requires_grad_(requires_grad=False)
    return model


def pretrained() -> nn.Module:
    model = mlp()
    optimizer = Adam(model.parameters(), 1e-2)
    for batch in itertools.islice(digits_like(), 300):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return model


def adversarial(model: nn.Module, batch: object) -> Tensor:
    assert isinstance(model, Adversaries)
    return model.both(batch)


def squared(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def advantage(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the policy-gradient loss of a bandit whose reward is to name the class: it stands near 0 for ever."""
    chosen = torch.distributions.Categorical(logits=model(batch[0]).detach()).sample()
    reward = (chosen == batch[1]).float()
    advantages: Tensor = (reward - reward.mean()) / (reward.std() + 1e-3)
    chances: Tensor = F.log_softmax(model(batch[0]), 1).gather(1, chosen[:, None])[:, 0]
    return -(chances * advantages).mean()


HEALTHY: dict[str, Setup] = {
    **{name: Setup(case.model, case.optimizer, case.data, case.loss, case.schedule) for name, case in CASES.items()},
    "grokking": Setup(ModularAddition, adamw(1e-3, weight_decay=1.0), sums),
    "grokking, sgd": Setup(ModularAddition, sgd(0.05), sums),
    "cosine to 0": Setup(optimizer=sgd(0.02), data=noisy, schedule=lambda o: CosineAnnealingLR(o, 1000)),
    "linear to 0": Setup(
        optimizer=adam(1e-3), data=noisy, schedule=lambda o: LambdaLR(o, lambda t: max(0.0, 1.0 - t / 1000))
    ),
    "three steps of ten": Setup(
        optimizer=sgd(0.02), data=noisy, schedule=lambda o: MultiStepLR(o, [300, 600, 800], 0.1)
    ),
    "four decades in all": Setup(optimizer=sgd(0.05), data=noisy, schedule=lambda o: ExponentialLR(o, 1e-4**1e-3)),
    "lowered on a plateau, with nothing to learn": Setup(
        optimizer=sgd(0.02), data=random_labels, schedule=lambda o: ReduceLROnPlateau(o, patience=50)
    ),
    "a long warm-up": Setup(optimizer=sgd(0.05), schedule=lambda o: LambdaLR(o, lambda t: min(1.0, (t + 1) / 500))),
    "fine-tuning, adam": Setup(pretrained, adam(1e-5)),
    "fine-tuning, sgd": Setup(pretrained, sgd(1e-3)),
    "fine-tuning to noise": Setup(pretrained, adam(1e-4), noisy),
    "a frozen backbone": Setup(frozen, adam(1e-3)),
    "adapters from zero": Setup(Adapted),
    "adapters from zero, sgd": Setup(Adapted, sgd(0.05), noisy),
    "gates and head from zero": Setup(Gated),
    "gates and head from zero, sgd": Setup(Gated, sgd(0.02), noisy),
    "adversaries": Setup(Adversaries, adam(5e-4, betas=(0.5, 0.9)), loss=adversarial),
    "adversaries by turns": Setup(lambda: Adversaries(2), adam(5e-4, betas=(0.5, 0.9)), loss=adversarial),
    "adversaries, one in five": Setup(lambda: Adversaries(5), adam(5e-4, betas=(0.5, 0.9)), loss=adversarial),
    "a bandit": Setup(optimizer=adam(3e-4), loss=advantage),
    "a full batch of noise": Setup(
        lambda: nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1)), sgd(0.05, 0.0), nothing_to_learn, squared
    ),
    "nothing to learn, weight decay": Setup(optimizer=adamw(3e-3, weight_decay=0.1), data=random_labels),
    "a deep net that takes its time": Setup(lambda: deep(nn.ReLU, depth=8), sgd(0.02)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_training_that_nothing_holds_back_is_never_found(name: str) -> None:
    assert HEALTHY[name].run(0, 150).of("plateau") == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HEALTHY)
def test_it_is_not_found_in_a_thousand_ticks_whatever_the_seed(name: str, seed: int) -> None:
    assert HEALTHY[name].run(seed, 1000).of("plateau") == []


def test_a_memory_task_that_has_not_begun_to_learn_is_left_alone() -> None:
    """An LSTM stands for hundreds of ticks before it finds what to remember."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.head = nn.Embedding(8, 12), nn.LSTM(12, 24, batch_first=True), nn.Linear(24, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(self.embed(x))[0][:, -1])  # type: ignore[no-any-return]

    assert Setup(Last, adam(1e-3), sequences).run(0, 200).of("plateau") == []


# Figures made by hand


def plateaus(changes: Callable[[int], dict[str, Any]], ticks: int = 80) -> list[Finding]:
    shots = [dataclasses.replace(shot(t, 1.0 + 0.01 * (-1) ** t, 1.0), **changes(t)) for t in range(1, ticks)]
    return [finding for finding in examined(shots) if finding.pathology == "plateau"]


def test_steps_that_move_nothing_are_found_where_the_loss_stands() -> None:
    found = plateaus(lambda t: {"sample": sample(moved=1e-7) if t % 10 == 1 else None})
    assert [finding.tick for finding in found][:1] == [41]
    assert found[0].evidence["reach"] < 0.5
    assert plateaus(lambda t: {"sample": sample(moved=1e-7) if t % 10 == 1 else None, "loss": 2.0 - t / 50}) == []


def test_a_rising_rate_is_warm_up() -> None:
    assert plateaus(lambda t: {"sample": sample(moved=1e-7) if t % 10 == 1 else None, "lr": t * 1e-6}) == []


def test_alike_layers_are_named_and_the_output_is_not_judged() -> None:
    def same(layers: list[int]) -> Callable[[int], dict[str, Any]]:
        spread = full(0.5, 5)
        spread[layers] = 0.0
        return lambda _t: {"sample": dataclasses.replace(sample(), spread=spread)}

    found = plateaus(same([1, 2]))
    assert {finding.where for finding in found} == {("b", "c")}
    assert {finding.cause for finding in found} == {c.SYMMETRY}
    assert found[0].tick == 21
    assert plateaus(same([4])) == []


def test_layers_that_do_not_take_part_need_no_gradient() -> None:
    """Unused experts, heads of other tasks: they are not in the forward pass."""
    norms = np.array([0, 0, 0, 1, 1], np.float32)
    used, unused = full(1.0, 5), np.array([np.nan, np.nan, np.nan, 1, 1], np.float32)

    def with_signal(signal: Any) -> list[Finding]:
        shown = dataclasses.replace(sample(), signal=signal)
        return plateaus(lambda _t: {"grad_norms": norms, "sample": shown})

    assert {(finding.cause, finding.where) for finding in with_signal(used)} == {(c.NO_GRADIENT, ("a", "b", "c"))}
    assert with_signal(unused) == []


def test_layers_that_are_moved_without_a_gradient_are_no_illness() -> None:
    """A teacher that follows its student gets no gradient, and moves."""
    norms = np.array([0, 0, 0, 1, 1], np.float32)

    def following(t: int) -> dict[str, Any]:
        weights = np.array([1 + t / 100, 1 + t / 100, 1 + t / 100, 1, 1], np.float32)
        return {"grad_norms": norms, "sample": dataclasses.replace(sample(), signal=full(1.0, 5), weight_norms=weights)}

    assert plateaus(following) == []


def test_a_mismatch_counts_only_where_the_loss_stands_unsolved() -> None:
    misfit = dataclasses.replace(ANATOMY, mismatch="cross_entropy of softmax")
    found = plateaus(lambda _t: {"anatomy": misfit})
    assert {finding.cause for finding in found} == {c.MISMATCH}
    assert plateaus(lambda t: {"anatomy": misfit, "loss": 1.0 if t < 20 else 0.1}) == []
