"""Faulty trainings of multilayer perceptrons."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adagrad, adam, faulty, rmsprop, sgd, squared
from supervisor.clinic.development._models import Functional, mlp
from supervisor.clinic.tasks import Batch, cancer, diabetes, digits, waves, wine
from supervisor.diagnoses import causes as c

DEEP = (64, *[32] * 11, 10)


def binary(model: nn.Module, batch: Batch) -> Tensor:
    """Return the binary cross-entropy of each class against the others."""
    return F.binary_cross_entropy_with_logits(model(batch[0]), F.one_hot(batch[1], 2).float())


def by_hand(model: nn.Module, batch: Batch) -> Tensor:
    """Return a cross-entropy whose logarithm meets 0 as soon as one input is far out."""
    share = torch.softmax(model(batch[0]), -1)
    return -(F.one_hot(batch[1], 10) * torch.log(share)).sum(1).mean()


class Detached(nn.Module):
    """A network whose body never learns: its features are detached by mistake."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = mlp(64, 32, 3), mlp(3, 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.body(x).detach())  # type: ignore[no-any-return]


deep_relu = Recipe(digits, lambda: mlp(*DEEP), sgd(0.02), prepare=faults.he, steps=1000)
deep_adam = Recipe(digits, lambda: Functional(*DEEP), adam(), prepare=faults.he, steps=1000)
gentle = Recipe(digits, lambda: mlp(64, *[48] * 5, 10), sgd(0.003), prepare=faults.he, steps=400)
narrow = Recipe(digits, lambda: mlp(64, 32, 3, 32, 10), adam(3e-3), steps=1000)
shallow = Recipe(digits, lambda: mlp(64, 64, 32, 10), sgd(0.05), prepare=faults.he, steps=1000)
tanh = Recipe(
    digits, lambda: Functional(64, 48, 48, 48, 10, function=torch.tanh), sgd(0.02), prepare=faults.xavier, steps=1000,
)  # fmt: skip
smooth = Recipe(waves, lambda: mlp(5, 64, 64, 1), adam(3e-3), squared, prepare=faults.he, steps=1000)
tumours = Recipe(cancer, lambda: mlp(30, 32, 32, 2), rmsprop(), binary, prepare=faults.he, steps=800, size=16)
squares = Recipe(digits, lambda: Functional(64, 64, 64, 10), rmsprop(), prepare=faults.he)
wines = Recipe(wine, lambda: mlp(13, 32, 32, 3, act=nn.ELU), adagrad(0.02), steps=800, size=16)
patients = Recipe(
    diabetes, lambda: mlp(10, 32, 32, 1, act=nn.Tanh), sgd(0.01), lambda m, b: F.l1_loss(m(b[0]), b[1]), steps=800,
)  # fmt: skip

CASES: tuple[Case, ...] = (
    faulty(
        "mlp/sigmoid-12-sgd", deep_relu, ("vanishing_gradients",), {c.ACTIVATION, c.DEPTH},
        model=lambda: mlp(*DEEP, act=nn.Sigmoid), prepare=lambda _: None,
    ),
    faulty(
        "mlp/functional-sigmoid-14-adam", deep_adam, ("vanishing_gradients",), {c.ACTIVATION, c.DEPTH},
        model=lambda: Functional(64, *[32] * 13, 10, function=torch.sigmoid), prepare=lambda _: None,
    ),
    faulty(
        "mlp/tiny-weights-12-sgd", deep_relu, ("vanishing_gradients", "plateau"), {c.INITIALIZATION, c.DEPTH},
        prepare=faults.normal(0.02),
    ),
    faulty(
        "mlp/huge-weights-12-sgd", deep_relu, ("exploding_gradients", "unstable_training", "non_finite"),
        {c.INITIALIZATION, c.LARGE_WEIGHTS}, prepare=faults.scaled(3.0, faults.he),
    ),
    faulty(
        "mlp/rate-too-high-kills-units", shallow, ("dead_units", "exploding_gradients", "unstable_training"),
        {c.LARGE_LR}, optimizer=sgd(2.0),
    ),
    faulty(
        "mlp/rate-x100-at-400", shallow, ("exploding_gradients", "unstable_training", "dead_units"), {c.LARGE_LR},
        onset=400, schedule=faults.rate(lambda tick: 100.0 if tick >= 400 else 1.0),
    ),
    faulty(
        "mlp/tanh-rate-too-high-sgd", tanh, ("unstable_training", "exploding_gradients", "saturation"), {c.LARGE_LR},
        optimizer=sgd(0.3),
    ),
    faulty(
        "mlp/absolute-error-rate-too-high", patients, ("unstable_training", "exploding_gradients", "saturation"),
        {c.LARGE_LR}, optimizer=sgd(1.0),
    ),
    faulty(
        "mlp/rate-too-high-rmsprop", squares, ("unstable_training", "exploding_gradients", "dead_units"),
        {c.LARGE_LR}, optimizer=rmsprop(0.3),
    ),
    faulty(
        "mlp/nan-in-batch-150", shallow, ("non_finite",), {c.BAD_BATCH}, onset=150,
        distort=faults.batch_at(range(150, 151), faults.inputs(faults.one(float("nan")))),
    ),
    faulty(
        "mlp/adam-state-nan-at-500", deep_adam, ("non_finite",), {c.BAD_OPTIMIZER, c.BAD_PARAMETERS}, onset=500,
        fault=faults.corrupt_state(500, "exp_avg", float("nan")),
    ),
    faulty(
        "mlp/log-of-zero-at-300", shallow, ("non_finite",), {c.LOSS_OVERFLOW, c.BAD_BATCH, c.INPUT_SCALE}, onset=300,
        loss=by_hand, distort=faults.batch_at(range(300, 301), faults.inputs(lambda x: x * 1000)),
    ),
    faulty(
        "mlp/target-x1e4-at-350", smooth,
        ("exploding_gradients", "unstable_training", "dead_units"), {c.BAD_TARGET, c.BAD_BATCH}, onset=350,
        optimizer=sgd(0.02), distort=faults.batch_at(range(350, 351), faults.targets(lambda y: y * 1e4)),
    ),
    faulty(
        "mlp/biases-to-minus-20-at-400", deep_relu, ("dead_units",), {c.NEGATIVE_BIAS}, onset=400,
        fault=faults.accident(400, faults.biased(-20.0)),
    ),
    faulty(
        "mlp/unscaled-inputs-relu-dies", shallow, ("dead_units", "exploding_gradients", "unstable_training"),
        {c.INPUT_SCALE, c.LARGE_LR}, task=faults.unscaled(digits, 255.0),
    ),
    faulty(
        "mlp/unscaled-inputs-tanh", tanh, ("saturation",), {c.INPUT_SCALE}, task=faults.unscaled(digits, 255.0),
    ),
    faulty(
        "mlp/huge-weights-sigmoid", tanh, ("saturation",), {c.INITIALIZATION, c.LARGE_WEIGHTS},
        model=lambda: Functional(64, 48, 48, 48, 10, function=torch.sigmoid), prepare=faults.normal(5.0),
    ),
    faulty("mlp/rate-1e-7-adam", shallow, ("plateau",), {c.SMALL_LR}, optimizer=adam(1e-7)),
    faulty(
        "mlp/all-weights-alike", tanh, ("plateau",), {c.SYMMETRY, c.INITIALIZATION}, prepare=faults.constant(0.05),
    ),
    faulty(
        "mlp/softmax-before-cross-entropy", gentle, ("plateau", "vanishing_gradients"), {c.MISMATCH},
        loss=faults.of_softmax,
    ),
    faulty(
        "mlp/huge-weight-decay-binary", tumours, ("plateau", "vanishing_gradients"), {c.WEIGHT_DECAY},
        optimizer=rmsprop(weight_decay=3.0),
    ),
    faulty("mlp/body-detached", narrow, ("plateau",), {c.NO_GRADIENT}, model=Detached),
    faulty(
        "mlp/sigmoid-output-for-standardized-targets", smooth, ("plateau", "saturation"), {c.MISMATCH},
        model=lambda: mlp(5, 64, 64, 1, last=(nn.Sigmoid(),)),
    ),
    faulty(
        "mlp/weight-decay-1", wines, ("plateau",), {c.WEIGHT_DECAY}, optimizer=adagrad(0.02, weight_decay=1.0),
    ),
    faulty(
        "mlp/rate-decays-at-once", patients, ("plateau",), {c.DECAYED_LR, c.SMALL_LR}, onset=7,
        schedule=faults.rate(lambda tick: 0.5**tick),
    ),
)  # fmt: skip
