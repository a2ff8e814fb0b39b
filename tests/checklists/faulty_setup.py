"""Trainings with a fault in the optimizer, the mode or the policy."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import torch
from torch import nn

from supervisor.policy.model import Policy
from tests.checklists.models import (
    CLIPPING,
    Case,
    case,
    mlp,
    recurrent,
)
from tests.checklists.warned import warns


@warns("parameters_held")
def left_out() -> Case:
    model = mlp()
    return case(model).but(optimizer=torch.optim.Adam(model[2].parameters()))


@warns("parameters_held")
@warns("parameters_foreign")
def stale_optimizer() -> Case:
    model = mlp()
    return case(model).but(optimizer=torch.optim.Adam(copy.deepcopy(model).parameters()))


@warns("parameters_twice")
def two_optimizers() -> Case:
    model = mlp()
    return case(model).but(optimizer=[torch.optim.Adam(model.parameters()), torch.optim.SGD(model.parameters())])


@warns("parameters_twice")
def twice_in_a_group() -> Case:
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return case(model).but(optimizer=torch.optim.SGD([*model.parameters(), *model.parameters()], lr=0.01))


@warns("frozen")
def frozen_group() -> Case:
    model = mlp()
    model[0].requires_grad_(requires_grad=False)
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters())}]
    return case(model).but(optimizer=torch.optim.Adam(groups))


@warns("frozen")
def frozen_output() -> Case:
    model = mlp()
    model[2].requires_grad_(requires_grad=False)
    return case(model)


@warns("learning_rate")
def no_rate() -> Case:
    return case(mlp(), lr=0.0)


@warns("learning_rate_range")
@warns("first_step")
def rate_too_large() -> Case:
    return case(mlp(), lr=0.5)


@warns("learning_rate_range")
@warns("first_step")
def rate_too_small() -> Case:
    return case(mlp(), lr=1e-9)


@warns("learning_rate_range")
def momentum_multiplies() -> Case:
    model = mlp()
    return case(model).but(optimizer=torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.99))


@warns("train_mode")
def eval_mode() -> Case:
    return case(mlp(nn.Dropout(0.5)).eval())


@warns("train_mode")
def one_norm_in_eval_mode() -> Case:
    model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4))
    model[1].eval()
    return case(model)


@warns("clipping")
def recurrent_without_clipping() -> Case:
    return recurrent(nn.LSTM).but(policy=Policy("none"))


@warns("monitoring")
def watched_by_nobody() -> Case:
    return case(mlp()).but(policy=replace(CLIPPING, detect={"dead_units": None}))
