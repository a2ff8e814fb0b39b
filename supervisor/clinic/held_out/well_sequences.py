"""Healthy recurrent nets and transformers whose build makes others cry wolf: masked, tied, gated, remembering."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import nn

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._attention import Former, Patches
from supervisor.clinic.held_out._build import Recipe, adam, adamw, places, well
from supervisor.clinic.held_out._sequence import Packed, Reader, identity_recurrence


def _remembering(model: nn.Module) -> None:
    """Open every forget gate of an LSTM wide."""
    for name, p in model.named_parameters():
        if "bias_ih" in name:
            p.data[len(p) // 4 : len(p) // 2] = 5.0


CASES: tuple[Case, ...] = (
    well(
        "transformer/rezero-4-text",
        "transformer",
        Recipe(
            tasks.text,
            lambda: Former(tasks.TEXT_LETTERS, tasks.TEXT_LETTERS, depth=3, norm=False, gate=0.0),
            adamw(3e-3),
            places,
            steps=400,
            size=16,
        ),
        "blocks that do nothing at first",
    ),
    well(
        "transformer/tied-embedding-text",
        "transformer",
        Recipe(
            tasks.text,
            lambda: Former(tasks.TEXT_LETTERS, tasks.TEXT_LETTERS, tied=True),
            adamw(3e-3),
            places,
            steps=450,
            size=16,
        ),
        "one matrix at both ends, rows for letters that never come",
    ),
    well(
        "transformer/padded-votes",
        "transformer",
        Recipe(data.majority, lambda: Former(6, 6, label=True, padded=True, function=F.relu), adam(2e-3), steps=450),
        "masks of -inf, attention that is exactly 0 on padding",
    ),
    well(
        "transformer/multihead-after-norm-rows",
        "transformer",
        Recipe(tasks.rows, Patches, adamw(2e-3), steps=450),
        "norms behind the sums",
    ),
    well(
        "rnn/packed-gru-padded-votes",
        "rnn",
        Recipe(data.majority, lambda: Packed(6, 32, 6), adam(5e-3), steps=400),
        "sequences of unequal length, an embedding row that stays 0",
    ),
    well(
        "rnn/identity-relu-rnn-adding",
        "rnn",
        Recipe(
            lambda: tasks.adding(20),
            lambda: Reader(nn.RNN(2, 48, nonlinearity="relu", batch_first=True), 1),
            adam(2e-3),
            F.mse_loss,
            steps=900,
            init=identity_recurrence,
        ),
        "recurrent ReLUs whose gradients neither fade nor grow",
    ),
    well(
        "rnn/gru-adding-40-after-a-long-stand",
        "rnn",
        Recipe(
            lambda: tasks.adding(40),
            lambda: Reader(nn.GRU(2, 32, batch_first=True), 1),
            adam(5e-3),
            F.mse_loss,
            steps=500,
        ),
        "the loss stands for a third of the run, then falls",
    ),
    well(
        "rnn/lstm-open-forget-gates-recall",
        "rnn",
        Recipe(
            tasks.recall,
            lambda: Reader(nn.LSTM(16, 48, batch_first=True), 8, 8),
            adam(3e-3),
            steps=600,
            init=_remembering,
        ),
        "gates pinned open, because memory is the task",
    ),
    well(
        "rnn/two-layer-bigru-dropout-0.5",
        "rnn",
        Recipe(
            tasks.rows,
            lambda: Reader(nn.GRU(8, 24, 2, batch_first=True, bidirectional=True, dropout=0.5), 10, dropout=0.5),
            adam(5e-3),
            steps=400,
        ),
        "dropout between layers and before the head",
    ),
)
