"""Healthy trainings by reward, whose loss is no measure of progress."""

from __future__ import annotations

import copy
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out._build import Recipe, adam, well
from supervisor.clinic.held_out._dense import stack
from supervisor.clinic.tasks import Batch, Task


def _rewarded(model: nn.Module, batch: Batch) -> Tensor:
    """Return REINFORCE's loss: guess a digit, be paid 1 if it is right."""
    choice = torch.distributions.Categorical(logits=model(batch[0]))
    action = choice.sample()
    reward = (action == batch[1]).float()
    log_probability: Tensor = choice.log_prob(action)
    result: Tensor = -(log_probability * (reward - reward.mean())).mean() - 0.01 * choice.entropy().mean()
    return result


class Walker(nn.Module):
    """Logits of three moves along a line and the value of a place; a late copy of the values, for targets."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.value = stack([2, 32, 3], nn.Tanh), stack([2, 32, 3], nn.Tanh)
        self.late = copy.deepcopy(self.value).requires_grad_(requires_grad=False)
        self.ticks: Tensor
        self.register_buffer("ticks", torch.zeros((), dtype=torch.long))


@cache
def places() -> Task:
    """3000 pairs of a place and a goal between -1 and 1."""
    x = 2 * torch.rand(3000, 2, generator=torch.Generator().manual_seed(52)) - 1
    return Task((x, x), (x[:300], x[:300]), "r2")


def _moved(state: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next place, and the reward: how much nearer the goal is."""
    following = torch.stack([state[:, 0] + 0.2 * (move - 1), state[:, 1]], 1)
    return following, (state[:, 0] - state[:, 1]).abs() - (following[:, 0] - following[:, 1]).abs()


def _actor_critic(model: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of actor and critic over eight moves."""
    assert isinstance(model, Walker)
    state, loss = batch[0], torch.zeros(())
    for _ in range(8):
        choice = torch.distributions.Categorical(logits=model.actor(state))
        move = choice.sample()
        following, reward = _moved(state, move)
        value, later = model.value(state)[:, 0], model.value(following)[:, 0].detach()
        advantage = 10 * reward + 0.9 * later - value
        log_probability: Tensor = choice.log_prob(move)
        loss = loss - (log_probability * advantage.detach()).mean() + 0.5 * advantage.square().mean()
        state = following
    return loss


def _q_learning(model: nn.Module, batch: Batch) -> Tensor:
    """Return the temporal-difference error against a copy that is renewed every 60 ticks."""
    assert isinstance(model, Walker)
    if int(model.ticks) % 60 == 0:
        model.late.load_state_dict(model.value.state_dict())
    model.ticks.add_(1)
    move = torch.randint(3, (len(batch[0]),))
    following, reward = _moved(batch[0], move)
    with torch.no_grad():
        target = 10 * reward + 0.8 * model.late(following).amax(1)
    return F.smooth_l1_loss(model.value(batch[0]).gather(1, move[:, None])[:, 0], target)


def _walked(model: nn.Module, *, by_value: bool) -> float:
    """Return how much of the way to the goal is gone in eight greedy moves."""
    assert isinstance(model, Walker)
    state = places().test[0]
    begin = (state[:, 0] - state[:, 1]).abs().mean()
    for _ in range(8):
        state, _ = _moved(state, (model.value if by_value else model.actor)(state).argmax(1))
    return float(1 - (state[:, 0] - state[:, 1]).abs().mean() / begin)


CASES: tuple[Case, ...] = (
    well(
        "mlp/reinforce-digits",
        "mlp",
        Recipe(
            tasks.digits,
            lambda: stack([64, 48, 10], nn.Tanh),
            adam(5e-3),
            steps=1500,
            size=64,
            step=_rewarded,
            context="rl",
        ),
        "noise in place of gradients, a loss around 0",
    ),
    well(
        "other/actor-critic-walk",
        "other",
        Recipe(
            places,
            Walker,
            adam(3e-3),
            steps=350,
            size=64,
            step=_actor_critic,
            score=lambda m: _walked(m, by_value=False),
            chance=0.0,
            context="rl",
        ),
        "a loss that rises with what is expected",
    ),
    well(
        "other/q-learning-late-targets",
        "other",
        Recipe(
            places,
            Walker,
            adam(3e-3),
            steps=1200,
            size=64,
            step=_q_learning,
            score=lambda m: _walked(m, by_value=True),
            chance=0.0,
            context="rl",
        ),
        "targets that jump every 60 ticks, an actor without gradients",
    ),
)
