"""A training with all that a state consists of, and its continuation from the disk in a process of its own.

    python resuming.py FOLDER STEPS

builds it afresh, restores the newest checkpoint in FOLDER, trains STEPS steps and prints losses and weights as JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

sys.path[:0] = [str(Path(__file__).parents[2])]  # a script finds the repository only by that

from supervisor import rebuild  # noqa: E402
from supervisor.checkpoints import Store, capture, named  # noqa: E402
from supervisor.remedies.swap_activation import SwapActivation  # noqa: E402
from supervisor.run import TrainingRun  # noqa: E402
from tests.checkpoints.operating import surgery  # noqa: E402

CHANGE: dict[str, Any] = {"kind": "swap_activation", "to": "gelu", "modules": ["act"], "calls": []}


class Net(nn.Module):
    """Dropout, BatchNorm, a buffer that no state_dict carries, one that appears late, and an own bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Sigmoid()
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(16, 2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.last: Tensor | None
        self.register_buffer("last", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.act(self.norm(self.first(x))))
        past = torch.zeros(()) if self.last is None else self.last
        self.last = 0.5 * past + x.detach().mean()
        return self.head(x) * self.frozen + self.last  # type: ignore[no-any-return]


class Training:
    """The model, two optimizers, a scheduler, an EMA, and noise from python, numpy and an own generator."""

    def __init__(self, changes: Any = (), *, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = rebuild(Net(), changes)
        body = [p for name, p in self.model.named_parameters() if "head" not in name]
        self.optimizers = (
            torch.optim.AdamW(body, lr=0.01, amsgrad=True),
            torch.optim.SGD(self.model.head.parameters(), lr=torch.tensor(0.1), momentum=0.9),
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizers[0], max_lr=0.05, total_steps=60)
        self.ema = AveragedModel(self.model.first, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        self.noise, self.numbers = torch.Generator(), np.random.default_rng(seed)
        self.run = TrainingRun(self.model, self.optimizers, scheduler)
        things = {"ema": self.ema, "noise": self.noise, "numbers": self.numbers}
        vars(self.run)["registered"] = things

    def train(self, steps: int) -> list[str]:
        """Return the losses, as hexadecimal numbers: a bit is a bit."""
        losses = []
        for _ in range(steps):
            self.run.drop_gradients()
            x = torch.randn(12, 5, generator=self.noise) + random.random() + float(np.random.rand())  # noqa: NPY002
            loss = F.mse_loss(self.model(x + float(self.numbers.random())), x[:, :2])
            loss.backward()
            self.run.clock.tick += 1
            self.run.take_step(float(loss.detach()))
            self.ema.update_parameters(self.model.first)
            losses.append(float(loss.detach()).hex())
        return losses

    def figures(self) -> dict[str, str]:
        """Return a digest of all that the state consists of, by name."""
        return {name: digest(value) for name, value in named(self.run, capture(self.run))}


def begun(steps: int) -> Training:
    """Return a training after a surgery, a few steps on."""
    training = Training(seed=1)
    training.train(3)
    SwapActivation.operate(training.model, CHANGE)
    training.run.operate(surgery("none"))
    training.run.surgeries[-1].change = CHANGE
    training.train(steps)
    return training


def digest(value: Any) -> str:
    if isinstance(value, Tensor):
        value = (str(value.dtype), tuple(value.shape), value.detach().reshape(-1).tolist())
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def main() -> None:
    torch.set_num_threads(1)
    loaded = Store(sys.argv[1]).load()
    assert loaded is not None
    training = Training(loaded.model_changes, seed=99)
    loaded.restore(training.run)
    losses = training.train(int(sys.argv[2]))
    print(json.dumps({"losses": losses, "figures": training.figures(), "tick": training.run.clock.tick}))  # noqa: T201


if __name__ == "__main__":
    main()
