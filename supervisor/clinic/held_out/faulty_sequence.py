"""Faulty trainings of recurrent networks."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
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
    rmsprop,
    sgd,
    sick,
)
from supervisor.clinic.held_out._faults import jump, once
from supervisor.clinic.held_out._sequence import Loop, Reader, Translator, every, identity_recurrence, orthogonal
from supervisor.diagnoses import causes as by


def _rows(rnn: nn.RNNBase) -> nn.Module:
    return Reader(rnn, 10)


def _negative_biases(model: nn.Module) -> None:
    for name, p in model.named_parameters():
        if "rnn.bias_ih" in name:
            nn.init.constant_(p, -4.0)


def _closed(model: nn.Module, _optimizer: Optimizer) -> None:
    """Push the biases of every gate and candidate to -20."""
    for name, p in model.named_parameters():
        if "rnn.bias" in name:
            p.data.fill_(-20.0)


def _poisoned(model: nn.Module, optimizer: Optimizer) -> None:
    """Spoil one number of Adam's second moments, as a damaged checkpoint does."""
    parameter = next(p for name, p in model.named_parameters() if "reader.weight_hh" in name)
    optimizer.state[parameter]["exp_avg_sq"][3, 3] = torch.nan


recall = Recipe(
    lambda: tasks.recall(16),
    lambda: Loop(nn.RNNCell(16, 64), 8, 64, 8),
    adam(1e-3),
    steps=600,
    init=identity_recurrence,
)
adding = Recipe(
    lambda: tasks.adding(40),
    lambda: Reader(nn.GRU(2, 32, batch_first=True), 1),
    adam(5e-3),
    nn.functional.mse_loss,
    steps=500,
)
gru = Recipe(tasks.rows, lambda: _rows(nn.GRU(8, 32, batch_first=True)), adam(3e-3), steps=500)
lstm = Recipe(tasks.rows, lambda: _rows(nn.LSTM(8, 32, batch_first=True)), adam(3e-3), steps=500)
both_ways = Recipe(
    data.majority, lambda: Reader(nn.LSTM(16, 24, batch_first=True, bidirectional=True), 6, 6), adam(5e-3), steps=500
)
reversal = Recipe(data.reversal, lambda: Translator(10, 48), adam(5e-3), places, steps=600, size=64)
letters = Recipe(
    tasks.text,
    lambda: Reader(nn.GRU(24, 48, batch_first=True), tasks.TEXT_LETTERS, tasks.TEXT_LETTERS, everywhere=True),
    adamw(5e-3),
    places,
    steps=400,
    size=16,
)


CASES: tuple[Case, ...] = (
    sick(
        "rnn/cell-loop-16-recurrence-x0.3",
        "rnn",
        recall,
        (VANISHING, PLATEAU),
        {by.RECURRENCE, by.INITIALIZATION, by.ACTIVATION, by.DEPTH},
        init=orthogonal(0.3),
    ),
    sick(
        "rnn/lstm-5-layers-normal-0.01-sgd",
        "rnn",
        lstm,
        (VANISHING, PLATEAU),
        {by.INITIALIZATION, by.DEPTH, by.RECURRENCE, by.NO_SKIPS, by.ACTIVATION},
        model=lambda: _rows(nn.LSTM(8, 24, 5, batch_first=True)),
        init=every(0.01),
        optimizer=sgd(0.1),
        steps=400,
    ),
    sick(
        "rnn/relu-rnn-recurrence-x1.6-adding-40",
        "rnn",
        adding,
        (EXPLODING, NON_FINITE, UNSTABLE),
        {by.RECURRENCE, by.LARGE_WEIGHTS, by.INITIALIZATION, by.LARGE_LR},
        model=lambda: Reader(nn.RNN(2, 32, nonlinearity="relu", batch_first=True), 1),
        init=orthogonal(1.6),
        optimizer=sgd(0.01),
    ),
    sick(
        "rnn/tanh-rnn-64-pixels-unclipped-rate-1",
        "rnn",
        Recipe(tasks.pixels, lambda: Reader(nn.GRU(1, 32, batch_first=True), 10), adam(1e-2), steps=400),
        (EXPLODING, UNSTABLE, SATURATION, VANISHING),
        {by.RECURRENCE, by.LARGE_LR, by.LARGE_WEIGHTS, by.INITIALIZATION},
        model=lambda: Reader(nn.RNN(1, 48, batch_first=True), 10),
        init=orthogonal(2.0),
        optimizer=sgd(1.0),
    ),
    sick(
        "rnn/translator-adam-second-moment-nan-at-300",
        "rnn",
        reversal,
        (NON_FINITE,),
        {by.BAD_OPTIMIZER, by.BAD_PARAMETERS},
        onset=300,
        strike=once(300, _poisoned),
    ),
    sick(
        "rnn/lstm-weights-normal-8",
        "rnn",
        lstm,
        (SATURATION, VANISHING, EXPLODING),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.RECURRENCE},
        init=every(8.0),
        optimizer=sgd(0.1),
    ),
    sick(
        "rnn/lstm-gate-biases-to-minus-20-at-250",
        "rnn",
        lstm,
        (SATURATION, VANISHING),
        {by.NEGATIVE_BIAS},
        onset=250,
        strike=once(250, _closed),
    ),
    sick(
        "rnn/bilstm-adam-rate-0.5",
        "rnn",
        both_ways,
        (UNSTABLE, EXPLODING, SATURATION),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        optimizer=adam(0.5),
    ),
    sick(
        "rnn/gru-letters-rate-x100-at-200",
        "rnn",
        letters,
        (UNSTABLE, EXPLODING, SATURATION),
        {by.LARGE_LR},
        onset=200,
        rate=jump(200, 100.0),
    ),
    sick(
        "rnn/gru-rmsprop-rate-0.5",
        "rnn",
        gru,
        (UNSTABLE, EXPLODING, SATURATION),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        optimizer=rmsprop(0.5),
    ),
    sick(
        "rnn/gru-adam-weight-decay-1",
        "rnn",
        gru,
        (PLATEAU, VANISHING),
        {by.WEIGHT_DECAY},
        optimizer=adam(3e-3, weight_decay=1.0),
    ),
    sick(
        "rnn/irnn-relu-biases-minus-4",
        "rnn",
        adding,
        (DEAD, PLATEAU, VANISHING),
        {by.NEGATIVE_BIAS, by.INITIALIZATION},
        model=lambda: Reader(nn.RNN(2, 32, nonlinearity="relu", batch_first=True), 1),
        init=_negative_biases,
    ),
)
