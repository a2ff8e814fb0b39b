"""Faulty trainings of transformers, their attention written by hand."""

from __future__ import annotations

import torch
from torch import nn

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adam, adamw, faulty, sgd
from supervisor.clinic.development._models import Block, Transformer
from supervisor.clinic.tasks import TEXT_LETTERS, recall, rows, text
from supervisor.diagnoses import causes as c


def reader(*, depth: int = 2, skip: bool = True, norm: bool = True) -> Transformer:
    """Return a transformer over the rows of a digit."""
    return Transformer(8, 10, 8, depth=depth, skip=skip, norm=norm)


@torch.no_grad()
def sharpen(model: nn.Module) -> None:
    """Make every place attend to one other alone: scores far beyond the softmax's range."""
    for block in model.modules():
        if isinstance(block, Block):
            block.query.weight.mul_(200.0)
            block.key.weight.mul_(200.0)


def with_stem() -> nn.Module:
    """Return a transformer behind a layer of ReLUs, through which all that it sees comes."""
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), Transformer(32, 10, 8))


letters = Recipe(
    lambda: text(16), lambda: Transformer(TEXT_LETTERS, TEXT_LETTERS, 16, tokens=True, causal=True),
    adamw(5e-3), steps=500, size=16,
)  # fmt: skip
read = Recipe(rows, reader, adamw(2e-3), steps=500)
deep = Recipe(rows, lambda: reader(depth=4), adam(1e-3), steps=400)
stem = Recipe(rows, with_stem, adamw(2e-3), steps=500)
memory = Recipe(
    lambda: recall(12, 8), lambda: Transformer(8, 8, 12, tokens=True), adam(2e-3), steps=500,
)  # fmt: skip

CASES: tuple[Case, ...] = (
    faulty(
        "transformer/no-skips-no-norms", deep, ("vanishing_gradients",),
        {c.NO_SKIPS, c.DEPTH, c.INITIALIZATION}, model=lambda: reader(depth=6, skip=False, norm=False),
    ),
    faulty(
        "transformer/rate-x100-at-250", read, ("exploding_gradients", "unstable_training", "dead_units"),
        {c.LARGE_LR}, onset=250, schedule=faults.rate(lambda tick: 100.0 if tick >= 250 else 1.0),
    ),
    faulty(
        "transformer/rate-too-high-adam", letters, ("unstable_training", "exploding_gradients", "dead_units"),
        {c.LARGE_LR}, optimizer=adam(0.3),
    ),
    faulty(
        "transformer/nan-every-fifth-batch-from-200", read, ("non_finite",), {c.BAD_BATCH}, onset=200,
        distort=faults.batch_at(range(200, 10_000, 5), faults.inputs(faults.one(float("nan")))),
    ),
    faulty(
        "transformer/inf-parameter-at-150", letters, ("non_finite",), {c.BAD_PARAMETERS}, onset=150,
        fault=faults.accident(150, lambda m: faults.weights(m)[2].view(-1)[5:6].fill_(float("inf"))),
    ),
    faulty(
        "transformer/attention-saturated", memory, ("saturation",), {c.INITIALIZATION, c.LARGE_WEIGHTS},
        prepare=sharpen,
    ),
    faulty(
        "transformer/stem-silenced-at-200", stem, ("dead_units",), {c.NEGATIVE_BIAS}, onset=200,
        fault=faults.accident(200, lambda model: faults.biases(model)[0].fill_(-20.0)),
    ),
    faulty("transformer/rate-1e-7", memory, ("plateau",), {c.SMALL_LR}, optimizer=adam(1e-7)),
    faulty(
        "transformer/all-weights-zero", memory, ("plateau", "vanishing_gradients", "dead_units"),
        {c.SYMMETRY, c.INITIALIZATION, c.NO_GRADIENT}, prepare=faults.constant(0.0),
    ),
    faulty(
        "transformer/softmax-before-cross-entropy", letters, ("plateau",), {c.MISMATCH}, loss=faults.of_softmax,
    ),
    faulty(
        "transformer/weight-decay-40", letters, ("plateau",), {c.WEIGHT_DECAY},
        optimizer=adamw(5e-3, weight_decay=40.0),
    ),
    faulty(
        "transformer/rate-too-high-sgd", read, ("exploding_gradients", "unstable_training", "non_finite"),
        {c.LARGE_LR}, optimizer=sgd(0.4),
    ),
)  # fmt: skip
