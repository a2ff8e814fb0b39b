"""Healthy trainings whose course makes others cry wolf: schedules, curricula, shifts, small steps."""

from __future__ import annotations

import copy
import math
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._attention import Former, Patches
from supervisor.clinic.held_out._build import Recipe, adam, adamw, places, sgd, well
from supervisor.clinic.held_out._convolution import plain_net
from supervisor.clinic.held_out._dense import Gated, stack
from supervisor.clinic.held_out._pretrained import pretrained
from supervisor.clinic.held_out._sequence import Translator
from supervisor.clinic.tasks import Batch, Task


@cache
def grainy() -> Task:
    """Digits under noise."""
    g = torch.Generator().manual_seed(32)
    (x, y), (held, labels) = tasks.digits().train, tasks.digits().test
    grain = 0.5 * torch.randn(len(x) + len(held), 64, generator=g)
    return Task((x + grain[: len(x)], y), (held + grain[len(x) :], labels), "accuracy")


def _restarts(step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * (step % 150) / 150))


def _warm(step: int) -> float:
    return min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(step, 450) / 450))


def _cycle(step: int) -> float:
    """One cycle: up to twenty times the first rate, down to a thousandth of it."""
    return 1 + 19 * step / 240 if step < 240 else max(0.001, 20 * (1 - (step - 240) / 360))


def _short_at_first(tick: int, batch: Batch) -> Batch:
    """Give the first half of each sentence until tick 300, whole ones from then on."""
    tokens = batch[0][:, : 4 if tick < 300 else 8]
    return tokens, tokens.flip(1)


def _harder_at_once(tick: int, batch: Batch) -> Batch:
    """Clear images until tick 350, noisy ones from then on."""
    return (batch[0] + 0.6 * torch.randn_like(batch[0]), batch[1]) if tick >= 350 else batch


def _tuned() -> nn.Module:
    return copy.deepcopy(pretrained(coarse=False))


CASES: tuple[Case, ...] = (
    well(
        "transformer/warm-up-100-then-cosine-to-zero",
        "transformer",
        Recipe(
            tasks.text,
            lambda: Former(tasks.TEXT_LETTERS, tasks.TEXT_LETTERS),
            adamw(5e-3),
            places,
            steps=450,
            size=16,
            rate=_warm,
        ),
        "a rate that starts near 0 and ends there",
    ),
    well(
        "cnn/warm-restarts-sgd",
        "cnn",
        Recipe(tasks.images, lambda: plain_net(nn.SiLU, norm=nn.BatchNorm2d), sgd(0.1), steps=750, rate=_restarts),
        "the loss jumps whenever the rate restarts",
    ),
    well(
        "mlp/rate-steps-0.1-at-400-550",
        "mlp",
        Recipe(
            tasks.digits,
            lambda: stack([64, 48, 48, 10], nn.ReLU),
            sgd(0.05),
            steps=700,
            rate=lambda step: 0.1 ** ((step >= 400) + (step >= 550)),
        ),
        "a rate at a hundredth, after the work is done",
    ),
    well(
        "mlp/one-cycle-swiglu",
        "mlp",
        Recipe(tasks.digits, lambda: Gated(64, 40, 2, 10, F.silu), adam(5e-4), steps=600, rate=_cycle),
        "a rate that grows twentyfold in mid-run",
    ),
    well(
        "rnn/translator-curriculum-at-300",
        "rnn",
        Recipe(
            data.reversal, lambda: Translator(10, 48), adam(5e-3), places, steps=700, size=64, corrupt=_short_at_first
        ),
        "a harder task in mid-run: the loss jumps and falls again",
    ),
    well(
        "transformer/noisy-rows-from-350",
        "transformer",
        Recipe(tasks.rows, Patches, adamw(2e-3), steps=700, corrupt=_harder_at_once),
        "a lasting shift of the data, to which it adapts",
    ),
    well(
        "mlp/finetune-at-rate-2e-4",
        "mlp",
        Recipe(grainy, _tuned, adam(2e-4), steps=600, context="finetune"),
        "small steps, low loss",
    ),
)
