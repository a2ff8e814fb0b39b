"""Healthy games and contrasts, whose loss is no measure of progress."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out._build import Recipe, adam, well
from supervisor.clinic.held_out._dense import stack
from supervisor.clinic.tasks import Batch, Task


@cache
def bananas() -> Task:
    """3000 points along a parabola, without targets."""
    g = torch.Generator().manual_seed(51)
    x = torch.randn(3000, 1, generator=g)
    points = torch.cat([x, 0.5 * x.square() - 0.5 + 0.1 * torch.randn(3000, 1, generator=g)], 1)
    return Task((points[:2250], points[:2250]), (points[2250:], points[2250:]), "r2")


class Players(nn.Module):
    """A generator from 3 numbers to the plane, and a critic."""

    def __init__(self) -> None:
        super().__init__()
        self.maker, self.critic = stack([3, 48, 48, 2], nn.ReLU), stack([2, 48, 48, 1], nn.LeakyReLU)

    def fixed(self, x: Tensor) -> Tensor:
        """Return the critic's view of `x`; no gradient reaches the critic's parameters."""
        judged: Tensor = functional_call(self.critic, {k: p.detach() for k, p in self.critic.named_parameters()}, (x,))
        return judged


def _hinge_game(model: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(model, Players)
    made = model.maker(torch.randn(len(batch[0]), 3))
    real, fake = model.critic(batch[0]), model.critic(made.detach())
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean() - model.fixed(made).mean()


def _wasserstein(model: nn.Module, batch: Batch) -> Tensor:
    """Return both losses of a Wasserstein game whose critic is kept smooth by clipping its weights."""
    assert isinstance(model, Players)
    for p in model.critic.parameters():
        p.data.clamp_(-0.2, 0.2)
    made = model.maker(torch.randn(len(batch[0]), 3))
    result: Tensor = model.critic(made.detach()).mean() - model.critic(batch[0]).mean() - model.fixed(made).mean()
    return result


def _resemblance(model: nn.Module) -> float:
    """Return 1 - energy distance between made and real points, relative to that of one constant point."""
    assert isinstance(model, Players)
    real = bananas().test[0]
    made = model.maker(torch.randn(len(real), 3, generator=torch.Generator().manual_seed(0)))

    def distance(a: Tensor, b: Tensor) -> float:
        return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())

    return 1.0 - distance(made, real) / distance(real.mean(0, keepdim=True), real)


def _slow_maker(model: nn.Module) -> list[Optimizer]:
    assert isinstance(model, Players)
    return [
        torch.optim.RMSprop(model.maker.parameters(), lr=3e-4),
        torch.optim.RMSprop(model.critic.parameters(), lr=2e-3),
    ]


def _both(model: nn.Module) -> list[Optimizer]:
    assert isinstance(model, Players)
    return [
        torch.optim.Adam(model.maker.parameters(), lr=1e-3, betas=(0.5, 0.9)),
        torch.optim.Adam(model.critic.parameters(), lr=2e-3, betas=(0.5, 0.9)),
    ]


def _two_views(model: nn.Module, batch: Batch) -> Tensor:
    """Return SimCLR's loss: two noisy views of an image are to be alike, all others not."""
    views = torch.cat([batch[0], batch[0]]) * (torch.rand(2 * len(batch[0]), 64) > 0.25)
    code = F.normalize(model(views + 0.1 * torch.randn_like(views)), dim=-1)
    likeness = (code @ code.T / 0.3).fill_diagonal_(-1e9)
    return F.cross_entropy(likeness, torch.arange(len(code)).roll(len(code) // 2))


def _triplets(model: nn.Module, batch: Batch) -> Tensor:
    """Return the margin loss of every sample, its next of the same class in the batch, and the next of another."""
    code, label = F.normalize(model(batch[0]), dim=-1), batch[1]
    distance = (code[:, None] - code).square().sum(-1)
    same = (label[:, None] == label) & ~torch.eye(len(label)).bool()
    farthest, nearest = (distance * same).amax(1), (distance + 10.0 * (label[:, None] == label)).amin(1)
    return F.relu(farthest - nearest + 0.3).mean()


def _neighbours(model: nn.Module) -> float:
    """Return how often the nearest code among the trained ones bears the same label."""
    (x, y), (held, labels) = tasks.digits().train, tasks.digits().test
    known, asked = F.normalize(model(x), dim=-1), F.normalize(model(held), dim=-1)
    return float((y[(asked @ known.T).argmax(1)] == labels).float().mean())


CASES: tuple[Case, ...] = (
    well(
        "other/hinge-gan-parabola",
        "other",
        Recipe(
            bananas, Players, _both, steps=900, size=64, step=_hinge_game, score=_resemblance, chance=0.0, context="gan"
        ),
        "two losses that swing against each other",
    ),
    well(
        "other/wasserstein-gan-parabola",
        "other",
        Recipe(
            bananas,
            Players,
            _slow_maker,
            steps=900,
            size=64,
            step=_wasserstein,
            score=_resemblance,
            chance=0.0,
            context="gan",
        ),
        "a loss that means nothing, weights held at a bound",
    ),
    well(
        "other/two-views-contrasted",
        "other",
        Recipe(
            tasks.digits,
            lambda: stack([64, 96, 32], nn.ReLU),
            adam(2e-3),
            steps=500,
            size=64,
            step=_two_views,
            score=_neighbours,
            chance=0.1,
            context="contrastive",
        ),
        "a loss that stands high: the logarithm of the batch",
    ),
    well(
        "other/hard-triplets",
        "other",
        Recipe(
            tasks.digits,
            lambda: stack([64, 64, 16], nn.PReLU),
            adam(1e-3),
            steps=800,
            size=48,
            step=_triplets,
            score=_neighbours,
            chance=0.1,
            context="contrastive",
        ),
        "the hardest are chosen anew in every batch",
    ),
)
