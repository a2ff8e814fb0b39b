"""Tiny real trainings, their bare loop, and a bit-exact picture of everything a training consists of."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor import Report, supervise
from supervisor.journal import read_journal
from supervisor.run import TrainingRun
from tests.entry.optimizers import OPTIMIZERS

Batch = tuple[Tensor, Tensor]


class Net(nn.Module):
    """BatchNorm, dropout, a buffer assigned anew in forward, and one written through `.data`."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.first = nn.Linear(6, 24)
        self.norm = nn.BatchNorm1d(24)
        self.drop = nn.Dropout(dropout)
        self.second = nn.Linear(24, 24)
        self.head = nn.Linear(24, 3)
        self.level: Tensor
        self.register_buffer("level", torch.zeros(6))
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.level = 0.9 * self.level + 0.1 * x.detach().mean(0)
            self.seen.data.add_(x.detach().mean() + 1.0)
        x = self.drop(F.relu(self.norm(self.first(x))))
        return self.head(F.relu(self.second(x)))  # type: ignore[no-any-return]


def batches(count: int, size: int = 16, seed: int = 7) -> list[Batch]:
    """Return batches of points whose class is the largest of three fixed projections."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))
    x = torch.randn(count, size, 6, generator=generator)
    return [(one, (one @ true).argmax(1)) for one in x]


def poisoned(good: Sequence[Batch], *places: int, value: float = float("nan")) -> list[Batch]:
    """Return the batches with one element of those at `places` replaced."""
    bad = list(good)
    for place in places:
        x = bad[place][0].clone()
        x[0, 0] = value
        bad[place] = (x, bad[place][1])
    return bad


@dataclass
class Lab:
    """One training: a model, optimizers, perhaps a scheduler, and the train step."""

    model: nn.Module
    optimizers: list[Optimizer]
    scheduler: Any = None
    losses: list[float] = field(default_factory=list)
    calls: int = 0

    def train_step(self, batch: Batch) -> Tensor:
        self.calls += 1
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.losses.append(float(loss.detach()))
        return loss

    def bare(self, groups: Iterable[Sequence[Batch]], after_step: Callable[[int], object] | None = None) -> None:
        """Train as a person would without a supervisor; a group holds the micro-batches of one step."""
        for step, group in enumerate(groups, start=1):
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            losses = []
            for batch in group:
                loss = self.train_step(batch)
                losses.append(loss.detach())
                (loss / len(group)).backward()
            for optimizer in self.optimizers:
                optimizer.step()
            if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                self.scheduler.step(float(torch.stack(losses).mean()))
            elif self.scheduler is not None:
                self.scheduler.step()
            if after_step is not None:
                after_step(step)

    def supervised(self, data: Iterable[Batch], **more: Any) -> Report:
        """Train under supervision, without MLflow unless asked for."""
        arguments = {"scheduler": self.scheduler, "tracking": None, "progress": False, "run_dir": "run", **more}
        return supervise(self.train_step, model=self.model, optimizer=self.optimizers, data=data, **arguments)

    def accuracy(self) -> float:
        """Return the share of held-out points classified rightly."""
        self.model.eval()
        with torch.no_grad():
            right = [(self.model(x).argmax(1) == y).float().mean() for x, y in batches(20, seed=99)]
        self.model.train()
        return float(torch.stack(right).mean())


@dataclass
class Watched(Lab):
    """A training that takes a picture of itself before every forward pass."""

    pictures: list[dict[str, Any]] = field(default_factory=list)

    def train_step(self, batch: Batch) -> Tensor:
        self.pictures.append(picture(self, rng=False))
        return super().train_step(batch)

    def before_tick(self, tick: int) -> dict[str, Any]:
        return self.pictures[tick - 1]


def watched(optimizer: str = "adam", schedule: Callable[[Optimizer], Any] | None = None, **net: Any) -> Watched:
    training = lab(optimizer, schedule, **net)
    return Watched(training.model, training.optimizers, training.scheduler)


def lab(optimizer: str = "adam", schedule: Callable[[Optimizer], Any] | None = None, **net: Any) -> Lab:
    """Return a fresh training, the same at every call; all global random numbers are seeded."""
    seed_all(3)
    model = Net(**net)
    chosen = OPTIMIZERS[optimizer](model.parameters())
    seed_all(4)
    return Lab(model, [chosen], schedule(chosen) if schedule is not None else None)


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global one is what is watched
    torch.manual_seed(seed)


def run_of(training: Lab) -> TrainingRun:
    return TrainingRun(training.model, tuple(training.optimizers), training.scheduler)


def picture(training: Lab, *, rng: bool = True) -> dict[str, Any]:
    """Return everything that decides how a training goes on; tensors as bytes, so that equal means bit-identical."""
    model = training.model
    return {
        "parameters": {name: frozen(p) for name, p in model.named_parameters()},
        "buffers": {name: frozen(b) for name, b in model.named_buffers()},
        "objects": [id(tensor) for tensor in model.parameters()],
        "storage": [p.data_ptr() for p in model.parameters()],
        "optimizers": [frozen(optimizer.state_dict()) for optimizer in training.optimizers],
        "scheduler": None if training.scheduler is None else frozen(training.scheduler.state_dict()),
        "flags": [(module.training, type(module)) for module in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "rng": random_state() if rng else None,
    }


def values(training: Lab, *, rng: bool = True) -> dict[str, Any]:
    """Return `picture` without what two trainings cannot share: identity and storage."""
    return {key: value for key, value in picture(training, rng=rng).items() if key not in ("objects", "storage")}


def random_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), kind, np.asarray(keys).tobytes(), tuple(rest), frozen(torch.get_rng_state())


def frozen(value: Any) -> Any:
    """Return `value` with every tensor as (dtype, shape, bytes)."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return [frozen(item) for item in value] if isinstance(value, (list, tuple)) else value


def journal(kind: str | None = None, run_dir: str = "run") -> list[dict[str, Any]]:
    """Return the lines of a kind in the journal of a run."""
    return [entry for entry in read_journal(Path(run_dir)) if kind is None or entry["kind"] == kind]
