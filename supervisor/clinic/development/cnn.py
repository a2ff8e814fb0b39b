"""Faulty trainings of convolutional networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adam, faulty, rmsprop, sgd
from supervisor.clinic.development._models import Images, cnn
from supervisor.clinic.tasks import Batch, images
from supervisor.diagnoses import causes as c


def likelihood(model: nn.Module, batch: Batch) -> Tensor:
    """Return the negative log-likelihood of a log-softmax."""
    return F.nll_loss(F.log_softmax(model(batch[0]), -1), batch[1])


plain = Recipe(images, lambda: Images(8, 16), sgd(0.05), prepare=faults.he, steps=800)
normed = Recipe(images, lambda: cnn(8, 12, norm=True), adam(2e-3), likelihood, steps=600)
deep = Recipe(images, lambda: Images(*[8] * 8), adam(), likelihood, prepare=faults.he, steps=600)
slow = Recipe(images, lambda: Images(8, 8, 8, 8), sgd(0.02), prepare=faults.he, steps=600)
clamped = Recipe(images, lambda: cnn(8, 8, 8, act=nn.Hardtanh), sgd(0.02), prepare=faults.xavier, steps=600)
roots = Recipe(images, lambda: Images(8, 12), rmsprop(), prepare=faults.he, steps=800)

CASES: tuple[Case, ...] = (
    faulty(
        "cnn/functional-sigmoid-8", deep, ("vanishing_gradients",), {c.ACTIVATION, c.DEPTH},
        model=lambda: Images(*[8] * 8, function=torch.sigmoid), prepare=lambda _: None, optimizer=sgd(0.02),
    ),
    faulty(
        "cnn/weights-x30-at-250", slow, ("exploding_gradients", "unstable_training", "non_finite", "dead_units"),
        {c.LARGE_WEIGHTS, c.LARGE_LR}, onset=250, fault=faults.accident(250, faults.scaled(30.0)),
    ),
    faulty(
        "cnn/rate-x100-for-20-ticks", plain, ("exploding_gradients", "unstable_training", "dead_units"),
        {c.LARGE_LR}, onset=300, schedule=faults.rate(lambda tick: 100.0 if 300 <= tick < 320 else 1.0),
    ),
    faulty(
        "cnn/inf-in-batch-200-batchnorm", normed, ("non_finite",), {c.BAD_BATCH}, onset=200,
        distort=faults.batch_at(range(200, 201), faults.inputs(faults.one(float("inf")))),
    ),
    faulty(
        "cnn/negative-biases-from-the-start", plain, ("dead_units",), {c.NEGATIVE_BIAS, c.INITIALIZATION},
        prepare=faults.biased(-5.0, faults.he),
    ),
    faulty(
        "cnn/rate-too-high-kills-units-rmsprop", roots, ("dead_units", "exploding_gradients", "unstable_training"),
        {c.LARGE_LR}, optimizer=rmsprop(0.3),
    ),
    faulty(
        "cnn/hardtanh-huge-weights", clamped, ("saturation",), {c.INITIALIZATION, c.LARGE_WEIGHTS},
        prepare=faults.normal(10.0),
    ),
    faulty(
        "cnn/rate-too-high-kills-units-adam", deep, ("dead_units", "exploding_gradients", "unstable_training"),
        {c.LARGE_LR}, optimizer=adam(0.3),
    ),
    faulty(
        "cnn/batchnorm-rate-1-adam", normed, ("unstable_training", "exploding_gradients", "dead_units"), {c.LARGE_LR},
        optimizer=adam(1.0),
    ),
    faulty("cnn/rate-1e-6-sgd", plain, ("plateau",), {c.SMALL_LR}, optimizer=sgd(1e-6)),
    faulty(
        "cnn/raw-images-sgd", plain, ("exploding_gradients", "unstable_training", "dead_units"),
        {c.INPUT_SCALE, c.LARGE_LR}, task=faults.unscaled(images, 255.0),
    ),
)  # fmt: skip
