"""Healthy trainings whose loss is no measure of progress, or whose parts see little: games, values, sparse tokens."""

from __future__ import annotations

import copy
from functools import cache
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from supervisor.clinic.case import Case
from supervisor.clinic.development._build import Recipe, adam, adamw, healthy
from supervisor.clinic.development._models import mlp
from supervisor.clinic.tasks import Batch, Task, digits


class Ring(Task):
    """Points around a circle; scored by the share of generated points that lie close to it."""

    @property
    def chance(self) -> float:
        """The share of one constant point's worth: none of the ring."""
        return 0.0

    def score(self, model: nn.Module) -> float:
        """Return the share of 500 generated points within 0.25 of the circle."""
        noise = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        assert isinstance(model, nn.ModuleDict)
        with torch.no_grad():
            return float(((model["generator"](noise).norm(dim=1) - 1).abs() < 0.25).float().mean())


@cache
def ring() -> Task:
    """2000 points around the unit circle; the targets are not used."""
    angle = 6.2832 * torch.rand(2000, generator=torch.Generator().manual_seed(4))
    points = torch.stack([angle.cos(), angle.sin()], 1)
    return Ring((points, points), (points, points), "r2")


def players() -> nn.Module:
    """Return a generator and a discriminator."""
    return nn.ModuleDict({"generator": mlp(4, 32, 32, 2), "discriminator": mlp(2, 32, 32, 1, act=nn.LeakyReLU)})


def game(model: nn.Module, batch: Batch) -> Tensor:
    """Return both players' losses; each one's gradients reach its own parameters alone."""
    assert isinstance(model, nn.ModuleDict)
    generator, discriminator = model["generator"], model["discriminator"]
    made = generator(torch.randn(len(batch[0]), 4))
    real, fake = discriminator(batch[0]), discriminator(made.detach())
    fixed = {name: p.detach() for name, p in discriminator.named_parameters()}
    fooled = functional_call(discriminator, fixed, (made,))
    return F.softplus(-real).mean() + F.softplus(fake).mean() + F.softplus(-fooled).mean()


def policy_gradient(model: nn.Module, batch: Batch) -> Tensor:
    """Return REINFORCE's loss for naming a digit: reward 1 where the guess is right, a baseline of one tenth."""
    log_policy = torch.log_softmax(model(batch[0]), -1)
    guess = torch.multinomial(log_policy.exp(), 1)
    reward = (guess[:, 0] == batch[1]).float() - 0.1
    return -(reward * log_policy.gather(1, guess)[:, 0]).mean() + 0.01 * (log_policy.exp() * log_policy).sum(1).mean()


class Values(nn.Module):
    """Values of the states of a walk, and the older copy of itself that it learns from."""

    def __init__(self) -> None:
        super().__init__()
        self.online = mlp(12, 48, 48, 1)
        self.target = copy.deepcopy(self.online).requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of states, (n, 1)."""
        return self.online(x[:, :12])  # type: ignore[no-any-return]


DISCOUNT: Final = 0.9


@cache
def walk() -> Task:
    """3000 moves on a line of 12 states, (state, next state, reward); the true values, (n, 1)."""
    generator = torch.Generator().manual_seed(5)
    state = torch.randint(12, (3000,), generator=generator)
    after = (state + torch.where(torch.rand(3000, generator=generator) < 0.8, 1, -1)).clamp(0, 11)
    reward = (after == 11).float()
    moves = torch.zeros(12, 12)
    for s in range(12):
        moves[s, min(s + 1, 11)] += 0.8
        moves[s, max(s - 1, 0)] += 0.2
    values = torch.linalg.solve(torch.eye(12) - DISCOUNT * moves, moves[:, 11])
    inputs = torch.cat([F.one_hot(state, 12).float(), F.one_hot(after, 12).float(), reward[:, None]], 1)
    targets = values[state][:, None]
    return Task((inputs[:2000], targets[:2000]), (inputs[2000:], targets[2000:]), "r2")


def temporal_difference(model: nn.Module, batch: Batch) -> Tensor:
    """Return the error against reward plus what the older copy thinks of the next state."""
    assert isinstance(model, Values)
    with torch.no_grad():
        goal = batch[0][:, 24:] + DISCOUNT * model.target(batch[0][:, 12:24])
    return F.mse_loss(model(batch[0]), goal)


def renew(tick: int, model: nn.Module, _optimizer: Optimizer) -> None:
    """Renew the older copy every 20 ticks: the loss jumps up each time."""
    assert isinstance(model, Values)
    if tick % 20 == 0:
        model.target.load_state_dict(model.online.state_dict())


class Views(nn.Module):
    """Embeds digits; answers with the classes of the nearest among 400 known ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = mlp(64, 64, 16)
        self.register_buffer("known", digits().train[0][:400])
        self.register_buffer("classes", F.one_hot(digits().train[1][:400], 10).float())

    def forward(self, x: Tensor) -> Tensor:
        """Return votes, (n, 10)."""
        near = F.normalize(self.embed(x)) @ F.normalize(self.embed(self.known)).T
        return torch.softmax(20 * near, -1) @ self.classes  # type: ignore[operator]


def contrast(model: nn.Module, batch: Batch) -> Tensor:
    """Return the InfoNCE loss of two noisy views: find the same digit among the others."""
    assert isinstance(model, Views)
    one, two = (F.normalize(model.embed(batch[0] + 0.2 * torch.randn_like(batch[0]))) for _ in range(2))
    return F.cross_entropy(one @ two.T / 0.2, torch.arange(len(one)))


@cache
def parity() -> Task:
    """4000 rows of twelve signs; the class is the product of three of them."""
    signs = torch.randint(2, (4000, 12), generator=torch.Generator().manual_seed(6)).float() * 2 - 1
    labels = (signs[:, :3].prod(1) > 0).long()
    return Task((signs[:3000], labels[:3000]), (signs[3000:], labels[3000:]), "accuracy")


@cache
def sums_modulo() -> Task:
    """Pairs of numbers below 23, one-hot side by side; their sum modulo 23."""
    pairs = torch.cartesian_prod(torch.arange(23), torch.arange(23))
    pairs = pairs[torch.randperm(529, generator=torch.Generator().manual_seed(7))]
    x, y = F.one_hot(pairs, 23).flatten(1).float(), pairs.sum(1) % 23
    return Task((x[:370], y[:370]), (x[370:], y[370:]), "accuracy")


CASES: tuple[Case, ...] = (
    healthy(
        "other/two-players",
        Recipe(ring, players, adam(1e-3, betas=(0.5, 0.9)), game, steps=1200, size=64, context="gan"),
        "neither loss falls: the players balance",
    ),
    healthy(
        "other/policy-gradient",
        Recipe(digits, lambda: mlp(64, 64, 10), adam(3e-3), policy_gradient, steps=1500, context="rl"),
        "the loss wanders about zero while the reward rises",
    ),
    healthy(
        "other/values-from-an-older-copy",
        Recipe(walk, Values, adam(2e-3), temporal_difference, steps=1500, fault=renew, context="rl"),
        "targets grow: the loss rises and jumps",
    ),
    healthy(
        "other/two-views", Recipe(digits, Views, adam(2e-3), contrast, steps=700, size=64, context="contrastive"),
        "the loss stays high: batches hold true twins among the negatives",
    ),
    healthy(
        "other/parity", Recipe(parity, lambda: mlp(12, 64, 2), adam(3e-3), steps=1500),
        "the loss stands at chance until the pattern is found",
    ),
    healthy(
        "other/learnt-by-heart-then-understood",
        Recipe(sums_modulo, lambda: mlp(46, 128, 23), adamw(5e-3, weight_decay=2.0), steps=1500, size=370),
        "the training loss is near zero for long",
    ),
)  # fmt: skip
