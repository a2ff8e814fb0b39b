"""Faulty trainings of recurrent networks."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adam, faulty, rmsprop, sgd, squared
from supervisor.clinic.development._models import Loop, Reader
from supervisor.clinic.tasks import adding, recall, rows
from supervisor.diagnoses import causes as c

memory = Recipe(
    lambda: recall(20, 4), lambda: Reader(nn.RNN, 8, 32, 4, letters=4), adam(2e-3),
    prepare=faults.orthogonal(), steps=500,
)  # fmt: skip
sums = Recipe(lambda: adding(30), lambda: Reader(nn.GRU, 2, 24, 1), adam(1e-2), squared, steps=600)
rows_rnn = Recipe(rows, lambda: Reader(nn.RNN, 8, 48, 10), adam(2e-3), prepare=faults.orthogonal(), steps=600)
rows_lstm = Recipe(rows, lambda: Reader(nn.LSTM, 8, 32, 10), adam(5e-3), steps=500)
rows_gru = Recipe(rows, lambda: Reader(nn.GRU, 8, 32, 10), rmsprop(3e-3), steps=500)
loop = Recipe(rows, lambda: Loop(8, 48, 10), sgd(0.05), prepare=faults.orthogonal(), steps=800)
loop_relu = Recipe(rows, lambda: Loop(8, 48, 10, torch.relu), adam(2e-3), prepare=faults.orthogonal(), steps=800)

CASES: tuple[Case, ...] = (
    faulty(
        "rnn/tiny-weights-forget-in-20-steps", memory, ("vanishing_gradients",),
        {c.RECURRENCE, c.ACTIVATION, c.INITIALIZATION}, prepare=faults.scaled(0.1),
    ),
    faulty(
        "rnn/sigmoid-by-hand", loop, ("vanishing_gradients", "plateau"), {c.RECURRENCE, c.ACTIVATION, c.INITIALIZATION},
        model=lambda: Loop(8, 48, 10, torch.sigmoid), prepare=lambda _: None, optimizer=sgd(0.01),
    ),
    faulty(
        "rnn/relu-unclipped-gain-3", loop_relu, ("exploding_gradients", "unstable_training", "non_finite"),
        {c.RECURRENCE, c.LARGE_LR, c.INITIALIZATION, c.LARGE_WEIGHTS}, prepare=faults.orthogonal(3.0),
        optimizer=sgd(0.05),
    ),
    faulty(
        "rnn/long-sums-gain-2.5-adam", sums, ("exploding_gradients", "unstable_training"),
        {c.RECURRENCE, c.INITIALIZATION, c.LARGE_WEIGHTS}, prepare=faults.orthogonal(2.5), optimizer=adam(3e-3),
        model=lambda: Reader(partial(nn.RNN, nonlinearity="relu"), 2, 24, 1),
    ),
    faulty(
        "rnn/nan-target-at-180", sums, ("non_finite",), {c.BAD_TARGET}, onset=180,
        distort=faults.batch_at(range(180, 181), faults.targets(faults.one(float("nan")))),
    ),
    faulty(
        "rnn/lstm-weights-x30-at-200", rows_lstm, ("saturation", "exploding_gradients", "unstable_training"),
        {c.LARGE_WEIGHTS}, onset=200, fault=faults.accident(200, faults.scaled(30.0)),
    ),
    faulty(
        "rnn/gru-gates-shut-by-bias", rows_gru, ("saturation",), {c.NEGATIVE_BIAS, c.INITIALIZATION},
        prepare=faults.biased(20.0),
    ),
    faulty(
        "rnn/huge-recurrent-weights", rows_rnn, ("saturation", "exploding_gradients"),
        {c.INITIALIZATION, c.LARGE_WEIGHTS, c.RECURRENCE}, prepare=faults.scaled(30.0),
    ),
    faulty(
        "rnn/rate-too-high-adam", rows_rnn, ("unstable_training", "exploding_gradients", "saturation"),
        {c.LARGE_LR}, optimizer=adam(0.5),
    ),
    faulty(
        "rnn/rate-decays-in-30-ticks", rows_lstm, ("plateau",), {c.DECAYED_LR, c.SMALL_LR}, onset=30,
        schedule=faults.rate(lambda tick: max(1e-4, 1.0 - tick / 30)),
    ),
    faulty(
        "rnn/relu-by-hand-dies", loop_relu, ("dead_units",), {c.NEGATIVE_BIAS}, onset=300,
        fault=faults.accident(300, faults.biased(-20.0)),
    ),
)  # fmt: skip
