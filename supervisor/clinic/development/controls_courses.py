"""Healthy trainings whose schedules, batches and stages make others cry wolf."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adagrad, adam, adamw, cross_entropy, healthy, rmsprop, sgd
from supervisor.clinic.development._models import Images, Transformer, mlp
from supervisor.clinic.tasks import TEXT_LETTERS, Batch, digits, images, rows, text


def jittered(tick: int, batch: Batch) -> Batch:
    """Shift, dim and blur every image by noise of its own."""
    generator = torch.Generator().manual_seed(tick)
    x = torch.roll(batch[0], int(torch.randint(-1, 2, (1,), generator=generator)), -1)
    gain = 0.5 + torch.rand(len(x), 1, 1, 1, generator=generator)
    return x * gain + 0.3 * torch.randn(x.shape, generator=generator), batch[1]


def in_stages(tick: int, batch: Batch) -> Batch:
    """Show three classes, then six, then all."""
    kept = batch[1] < (3 if tick <= 300 else 6 if tick <= 600 else 10)
    return batch[0][kept], batch[1][kept]


def harder(tick: int, batch: Batch) -> Batch:
    """Hide half of the pixels from tick 400 on."""
    if tick < 400:
        return batch
    generator = torch.Generator().manual_seed(tick)
    return batch[0] * (torch.rand(batch[0].shape, generator=generator) < 0.5), batch[1]


def pretrain(model: nn.Module) -> None:
    """Train before the training, as whoever made the checkpoint did."""
    faults.he(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _, batch in zip(range(300), digits().batches(64, seed=0), strict=False):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()


net = Recipe(digits, lambda: mlp(64, 64, 48, 10), sgd(0.05), prepare=faults.he)
letters = Recipe(
    lambda: text(16), lambda: Transformer(TEXT_LETTERS, TEXT_LETTERS, 16, tokens=True, causal=True),
    adamw(5e-3, weight_decay=0.1), steps=500, size=16,
)  # fmt: skip
convolutions = Recipe(images, lambda: Images(8, 16), adam(2e-3), steps=600)
vary = dataclasses.replace

CASES: tuple[Case, ...] = (
    healthy(
        "transformer/warm-up", vary(letters, schedule=faults.rate(lambda t: min(1.0, t / 100))),
        "gradients and updates rise for a fifth of the run",
    ),
    healthy(
        "transformer/pre-norm-dropout-free",
        Recipe(rows, lambda: Transformer(8, 10, 8, depth=3), adamw(1e-3), steps=400),
        "the gradients of queries and keys are far below the others'",
    ),
    healthy(
        "mlp/cosine-restarts", vary(net, schedule=lambda o: CosineAnnealingWarmRestarts(o, 150)),
        "the rate jumps up again and again",
    ),
    healthy(
        "mlp/cyclic-rate",
        vary(net, schedule=lambda o: CyclicLR(o, 0.005, 0.2, step_size_up=100, cycle_momentum=False)),
        "the rate rises forty-fold and falls",
    ),
    healthy(
        "mlp/one-cycle", vary(net, schedule=lambda o: OneCycleLR(o, 0.3, total_steps=801)),
        "a high peak of the rate in mid-run, next to nothing at the end",
    ),
    healthy(
        "mlp/rate-drops-in-steps", vary(net, schedule=faults.rate(lambda t: 0.1 ** (t // 300))),
        "updates shrink tenfold at once; the last stage hardly moves",
    ),
    healthy(
        "cnn/cosine-to-zero", vary(convolutions, schedule=lambda o: CosineAnnealingLR(o, 600)),
        "the rate ends at zero because the training does",
    ),
    healthy("mlp/four-micro-batches", vary(net, accumulate=4, size=8, steps=500), "micro-batches are no steps"),
    healthy(
        "mlp/pairs", vary(net, size=2, optimizer=sgd(5e-3), steps=1500),
        "two samples a batch: loss and gradients vary a hundredfold",
    ),
    healthy(
        "mlp/single-samples", vary(net, size=1, optimizer=sgd(5e-3, 0.0), steps=2500),
        "one sample a batch: the loss varies a thousandfold",
    ),
    healthy(
        "mlp/full-batch-large-rate", vary(net, size=1347, optimizer=sgd(0.5, 0.0), steps=400),
        "the edge of stability: the loss rises now and then",
    ),
    healthy(
        "mlp/classes-in-stages", vary(net, distort=in_stages, steps=1000),
        "new classes lift the loss to a fresh level",
    ),
    healthy("mlp/inputs-hidden-from-400", vary(net, distort=harder, steps=1000), "the task gets harder in mid-run"),
    healthy("cnn/augmented", vary(convolutions, distort=jittered), "no input is seen twice, and most are noisy"),
    healthy(
        "mlp/fine-tuned", vary(net, prepare=pretrain, optimizer=adam(1e-4), context="finetune"),
        "the loss is low from the first tick and hardly falls",
    ),
    healthy("mlp/no-momentum", vary(net, optimizer=sgd(0.3, 0.0)), "a large rate without momentum"),
    healthy("mlp/adagrad", vary(net, optimizer=adagrad(0.03)), "updates shrink without end"),
    healthy("mlp/rmsprop", vary(net, optimizer=rmsprop(2e-3)), "large first updates"),
    healthy(
        "mlp/nesterov-decay", vary(net, optimizer=sgd(0.05, 0.95, nesterov=True, weight_decay=1e-3)),
        "momentum overshoots",
    ),
)  # fmt: skip
