"""Faulty trainings of transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._attention import Attention, Former, Patches
from supervisor.clinic.held_out._build import (
    DEAD,
    EXPLODING,
    NON_FINITE,
    PLATEAU,
    SATURATION,
    UNSTABLE,
    VANISHING,
    Recipe,
    adam,
    adamw,
    places,
    sgd,
    sick,
)
from supervisor.clinic.held_out._faults import batch_at, jump, normal, once
from supervisor.diagnoses import causes as by

letters = Recipe(
    tasks.text, lambda: Former(tasks.TEXT_LETTERS, tasks.TEXT_LETTERS), adamw(3e-3), places, steps=450, size=16
)
votes = Recipe(data.majority, lambda: Former(6, 6, label=True, padded=True), adam(2e-3), steps=450)
patches = Recipe(tasks.rows, Patches, adamw(2e-3), steps=450)
patches_sgd = Recipe(tasks.rows, Patches, sgd(0.01), steps=450)
recall = Recipe(lambda: tasks.recall(12), lambda: Former(8, 8, label=True), adamw(2e-3), steps=500)


def _blocks_scaled(model: nn.Module, _optimizer: Optimizer) -> None:
    """Multiply the weights of every block by 30, as weights loaded in other units do."""
    for name, p in model.named_parameters():
        if "blocks" in name and p.ndim > 1:
            p.data.mul_(30.0)


def _wild_attention(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.qkv.weight, std=8.0)


class _Probable(Patches):
    """Returns probabilities, which cross entropy takes for logits."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(super().forward(x), -1)


CASES: tuple[Case, ...] = (
    sick(
        "transformer/no-skips-no-norm-5-gelu",
        "transformer",
        letters,
        (VANISHING, PLATEAU),
        {by.NO_SKIPS, by.DEPTH, by.INITIALIZATION, by.ACTIVATION},
        model=lambda: Former(tasks.TEXT_LETTERS, tasks.TEXT_LETTERS, depth=5, skip=False, norm=False, function=F.gelu),
        steps=350,
    ),
    sick(
        "transformer/blocks-x30-at-200",
        "transformer",
        letters,
        (EXPLODING, UNSTABLE, SATURATION),
        {by.LARGE_WEIGHTS},
        onset=200,
        strike=once(200, _blocks_scaled),
    ),
    sick(
        "transformer/no-norm-normal-0.6-sgd",
        "transformer",
        votes,
        (EXPLODING, NON_FINITE, UNSTABLE, SATURATION),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.LARGE_LR},
        model=lambda: Former(6, 6, label=True, padded=True, depth=4, norm=False),
        init=normal(0.6, nn.Linear),
        optimizer=sgd(0.05),
    ),
    sick(
        "transformer/empty-sequence-at-230",
        "transformer",
        votes,
        (NON_FINITE,),
        {by.FORWARD_OVERFLOW, by.BAD_BATCH, by.BACKWARD_OVERFLOW},
        onset=230,
        corrupt=batch_at(230, lambda x, y: (x.index_fill(0, torch.tensor([7]), 0), y)),
    ),
    sick(
        "transformer/unscaled-attention-normal-8",
        "transformer",
        recall,
        (SATURATION, PLATEAU, VANISHING, EXPLODING),
        {by.INITIALIZATION, by.LARGE_WEIGHTS},
        model=lambda: Former(8, 8, label=True, scaled=False),
        init=_wild_attention,
    ),
    sick(
        "transformer/multihead-post-norm-adamw-rate-0.5",
        "transformer",
        patches,
        (UNSTABLE, EXPLODING, DEAD, SATURATION),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        optimizer=adamw(0.5),
    ),
    sick(
        "transformer/rate-x100-at-220",
        "transformer",
        letters,
        (UNSTABLE, EXPLODING, SATURATION),
        {by.LARGE_LR},
        onset=220,
        rate=jump(220, 100.0),
    ),
    sick(
        "transformer/softmax-then-cross-entropy",
        "transformer",
        patches_sgd,
        (PLATEAU,),
        {by.MISMATCH},
        model=_Probable,
    ),
    sick(
        # A warm-up counted in epochs of a far larger data set: the rate never gets anywhere.
        "transformer/warm-up-of-a-million-steps",
        "transformer",
        recall,
        (PLATEAU,),
        {by.SMALL_LR},
        rate=lambda step: (step + 1) / 1e6,
    ),
)
