"""Faulty trainings of autoencoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adagrad, adam, faulty, rmsprop, sgd, squared
from supervisor.clinic.development._models import Functional, mlp
from supervisor.clinic.tasks import Batch, reconstruction
from supervisor.diagnoses import causes as c

SIZES = (64, 48, 24, 12, 24, 48, 64)


def distance(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean distance; the root's slope is infinite where a sample is met exactly."""
    error: Tensor = model(batch[0]) - batch[1]
    return error.square().sum(1).sqrt().mean()


def absolute(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean absolute error."""
    return F.l1_loss(model(batch[0]), batch[1])


class Exponential(nn.Module):
    """An autoencoder whose code is made positive by exp(), with nothing to bound it."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = mlp(64, 32, 8), mlp(8, 32, 64)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction."""
        return self.decode(torch.exp(self.encode(x)))  # type: ignore[no-any-return]


relu = Recipe(reconstruction, lambda: mlp(*SIZES), adam(2e-3), squared, steps=900)
plain = Recipe(reconstruction, lambda: Functional(64, 48, 24, 48, 64, function=F.elu), sgd(1.0), squared, steps=900)
linear = Recipe(
    reconstruction, lambda: nn.Sequential(nn.Linear(64, 24, bias=False), nn.Linear(24, 64, bias=False)),
    adam(3e-3), distance, steps=800,
)  # fmt: skip
positive = Recipe(reconstruction, Exponential, adam(2e-3), squared, steps=800)
bounded = Recipe(
    reconstruction, lambda: Functional(64, 32, 16, 32, 64, function=torch.tanh), rmsprop(2e-3), absolute, steps=900,
)  # fmt: skip

CASES: tuple[Case, ...] = (
    faulty(
        "autoencoder/sigmoid-10-adagrad", relu, ("vanishing_gradients",), {c.ACTIVATION, c.DEPTH},
        model=lambda: mlp(64, 48, 32, 24, 16, 12, 16, 24, 32, 48, 64, act=nn.Sigmoid), optimizer=adagrad(),
        prepare=lambda _: None,
    ),
    faulty(
        "autoencoder/batch-x1000-at-400", plain, ("exploding_gradients", "unstable_training"),
        {c.BAD_BATCH, c.INPUT_SCALE}, onset=400,
        distort=faults.batch_at(range(400, 401), lambda batch: (batch[0] * 1000, batch[1] * 1000)),
    ),
    faulty(
        "autoencoder/root-of-zero-at-300", linear, ("non_finite",), {c.LOSS_OVERFLOW, c.BACKWARD_OVERFLOW, c.BAD_BATCH},
        onset=300, distort=faults.batch_at(range(300, 301), lambda batch: (batch[0] * 0, batch[1] * 0)),
    ),
    faulty(
        "autoencoder/exp-overflows-at-350", positive, ("non_finite",),
        {c.FORWARD_OVERFLOW, c.BAD_BATCH, c.INPUT_SCALE}, onset=350,
        distort=faults.batch_at(range(350, 351), faults.inputs(lambda x: x * 300)),
    ),
    faulty(
        "autoencoder/rate-x100-for-10-ticks", plain, ("exploding_gradients", "unstable_training"),
        {c.LARGE_LR}, onset=450, schedule=faults.rate(lambda tick: 100.0 if 450 <= tick < 460 else 1.0),
    ),
    faulty(
        "autoencoder/tanh-rate-too-high-rmsprop", bounded, ("unstable_training", "exploding_gradients", "saturation"),
        {c.LARGE_LR}, optimizer=rmsprop(0.3),
    ),
    faulty(
        "autoencoder/tanh-rate-x300-at-400", bounded, ("saturation", "unstable_training", "exploding_gradients"),
        {c.LARGE_LR, c.LARGE_WEIGHTS}, onset=400, schedule=faults.rate(lambda tick: 300.0 if tick >= 400 else 1.0),
    ),
    faulty(
        "autoencoder/code-silenced-at-500", relu, ("dead_units",), {c.NEGATIVE_BIAS}, onset=500,
        fault=faults.accident(500, lambda model: model[4].bias.fill_(-20.0)),  # type: ignore[index]
    ),
    faulty(
        "autoencoder/units-alike", bounded, ("plateau",), {c.SYMMETRY, c.INITIALIZATION}, prepare=faults.constant(0.05),
    ),
    faulty(
        "autoencoder/weight-decay-1", plain, ("plateau", "vanishing_gradients"), {c.WEIGHT_DECAY},
        optimizer=sgd(0.1, weight_decay=1.0),
    ),
)  # fmt: skip
