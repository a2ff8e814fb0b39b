"""Cases that train in a tenth of a second, to try the clinic's own machinery on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from supervisor.clinic.case import Case, Program
from supervisor.clinic.runs import Job, Kind, Ran, examine
from supervisor.clinic.tasks import Batch, wine
from supervisor.entry import Training

STEPS = 120
NAN_AT = 60


def classifier(
    seed: int, *, lr: float = 1e-2, activation: type[nn.Module] = nn.ReLU, bad: range = range(0), hidden: int = 1
) -> Program:
    """A small network on wines; the batches of the steps in `bad` are NaN."""
    torch.manual_seed(seed)
    task = wine()
    body = [layer for _ in range(hidden) for layer in (nn.Linear(16, 16), activation())]
    model = nn.Sequential(nn.Linear(13, 16), activation(), *body, nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def train_step(batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    training = Training(train_step, model, optimizer, _spoilt(task.batches(16, seed), bad), steps=STEPS)
    return Program(training, lambda: task.score(model), task.chance)


def _spoilt(batches: Iterator[Batch], bad: range) -> Iterator[Batch]:
    for tick, (inputs, targets) in enumerate(batches, start=1):
        yield (inputs * float("nan") if tick in bad else inputs), targets


def nan_batch(seed: int) -> Program:
    return classifier(seed, bad=range(NAN_AT, NAN_AT + 1))


def slow(seed: int) -> Program:
    return classifier(seed, lr=1e-7)


def drawn(seed: int) -> Program:
    """Deep, with sigmoids: it does not learn."""
    return classifier(seed, activation=nn.Sigmoid, hidden=10)


def raising(seed: int) -> Program:
    message = f"cannot be built with seed {seed}"
    raise RuntimeError(message)


def dying(seed: int) -> Program:
    os._exit(7)


def lingering(seed: int) -> Program:
    time.sleep(60)
    return classifier(seed)


NAN = Case(
    "mlp/nan-batch", "mlp", nan_batch, frozenset({"non_finite"}), frozenset({"bad batch"}), NAN_AT, twin=classifier
)
SLOW = Case(
    "mlp/slow", "mlp", slow, frozenset({"plateau", "vanishing_gradients"}), frozenset({"small learning rate"}),
    twin=classifier, main="plateau",
)  # fmt: skip
DEEP = Case(
    "mlp/deep-sigmoid", "mlp", drawn, frozenset({"vanishing_gradients"}), frozenset({"activation functions"}),
    twin=classifier,
)  # fmt: skip
HEALTHY = Case("mlp/healthy", "mlp", classifier, trap="none")
RAISING = Case("mlp/raising", "mlp", raising, trap="it cannot be built")
DYING = Case("mlp/dying", "mlp", dying, trap="it takes its process with it")
LINGERING = Case("mlp/lingering", "mlp", lingering, trap="it does not end")

CASES = (NAN, SLOW, DEEP, HEALTHY, RAISING, DYING, LINGERING)


def perform(job: Job) -> dict[Kind, Ran]:
    """Do the runs of a job of one of these cases."""
    torch.set_num_threads(1)
    return examine(next(case for case in CASES if case.name == job.case), job)
