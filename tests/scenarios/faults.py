"""Faults that strike a real training from outside, and what can be said of a run under the shipped default policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor import Report
from supervisor.records import REFLEXES
from tests.entry.trainings import Batch, Lab, lab, seed_all

NAN = float("nan")
Strike = tuple[Collection[int], Callable[[], None]]
"""At which batches, counted from 1, something happens before they are drawn."""


class Plain(nn.Module):
    """Two hidden layers, nothing that would hide a spike from the layers behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 24)
        self.second = nn.Linear(24, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x)))))  # type: ignore[no-any-return]


def normed(lr: float = 0.01, **net: Any) -> Lab:
    """Return a training with BatchNorm and dropout under Adam."""
    training = lab(**net)
    training.optimizers[0].param_groups[0]["lr"] = lr
    return training


def plain(lr: float = 0.1, optimizer: type[torch.optim.Optimizer] = torch.optim.SGD) -> Lab:
    """Return a training of `Plain`."""
    seed_all(3)
    model = Plain()
    training = Lab(model, [optimizer(model.parameters(), lr=lr)])  # type: ignore[call-arg]
    seed_all(4)
    return training


def struck(data: Sequence[Batch], *strikes: Strike) -> Iterator[Batch]:
    """Yield `data`, and strike in between: outside of the train step, so no trial repeats it."""
    for place, batch in enumerate(data, start=1):
        for at, strike in strikes:
            if place in at:
                strike()
        yield batch


def trained(training: Lab, data: Sequence[Batch], *strikes: Strike, **more: Any) -> Report:
    """Train under the shipped default policy."""
    return training.supervised(struck(data, *strikes), **{"steps": len(data), **more})


def second(training: Lab) -> nn.Linear:
    layer = training.model.second
    assert isinstance(layer, nn.Linear)
    return layer


def ruin_weights(training: Lab) -> Callable[[], None]:
    """Make one weight NaN, as a faulty cell of memory does."""

    def strike() -> None:
        with torch.no_grad():
            second(training).weight[0, 0] = NAN

    return strike


def ruin_moments(training: Lab) -> Callable[[], None]:
    """Make Adam's second moments of one layer NaN."""
    return lambda: training.optimizers[0].state[second(training).weight]["exp_avg_sq"].fill_(NAN)


def leap_rate(training: Lab, factor: float) -> Callable[[], None]:
    """Multiply the learning rate, as a mistaken schedule does."""

    def strike() -> None:
        for group in training.optimizers[0].param_groups:
            group["lr"] *= factor

    return strike


def kill_units(training: Lab, count: int) -> Callable[[], None]:
    """Silence `count` units of the second layer for good."""

    def strike() -> None:
        with torch.no_grad():
            second(training).bias[:count] = -50.0

    return strike


def rungs(report: Report) -> list[tuple[str, ...]]:
    """Return the remedies of each rung that was carried out, in order; the firings of a standing clip are none."""
    done = {outcome.decision for outcome in report.outcomes if outcome.status == "applied"}
    own = [d for d in report.decisions if d.id in done and not d.reason.startswith("standing clip")]
    groups = groupby(own, key=lambda d: (d.tick, d.finding.pathology, d.rung))
    return [tuple(decision.remedy for decision in group) for _, group in groups]


def treatments(report: Report) -> list[tuple[str, ...]]:
    """Return the rungs that were more than reflexes, advice or a stop."""
    return [rung for rung in rungs(report) if not set(rung) <= REFLEXES | {"advise", "stop"}]


def finite(training: Lab) -> bool:
    """Return whether everything that training starts from is finite: parameters, buffers, the optimizer's state."""
    state = [value for o in training.optimizers for per in o.state.values() for value in per.values()]
    tensors = [*training.model.parameters(), *training.model.buffers(), *(v for v in state if isinstance(v, Tensor))]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors) and math.isfinite(training.losses[-1])
