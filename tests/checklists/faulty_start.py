"""Trainings with a fault in the initial values or in the architecture."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.checklists.models import (
    Case,
    Recurrent,
    at,
    case,
    deep,
    mlp,
    norm_at,
    recurrent,
    weights,
)
from tests.checklists.warned import warns


@warns("weight_scale")
@warns("weight_chain")
@warns("gradient_decay")
@warns("signal")
def weights_too_large() -> Case:
    return case(weights(deep(), nn.init.normal_))


@warns("weight_scale")
@warns("gradient_decay")
@warns("signal")
def weights_too_small() -> Case:
    return case(weights(deep(), lambda weight: nn.init.normal_(weight, std=0.01)))


@warns("weight_chain")
@warns("residuals")
@warns("normalization")
def pytorch_default_in_a_deep_network() -> Case:
    return case(deep(depth=16))


@warns("weight_mean")
def positive_weights() -> Case:
    return case(weights(mlp(), nn.init.uniform_))


@warns("units_differ")
def constant_weights() -> Case:
    return case(weights(mlp(), lambda weight: nn.init.constant_(weight, 0.1)))


@warns("units_differ")
def zero_weights() -> Case:
    return case(weights(mlp(), nn.init.zeros_))


def bias_of(value: float) -> Case:
    model = mlp()
    nn.init.constant_(at(model, 0).bias, value)
    return case(model)


@warns("biases")
def large_biases() -> Case:
    return bias_of(3.0)


@warns("negative_biases")
@warns("dead_at_start")
@warns("gradients_arrive")
def shut_by_biases() -> Case:
    return bias_of(-10.0)


@warns("norm_parameters")
def norm_not_neutral() -> Case:
    model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4))
    nn.init.constant_(norm_at(model, 1).weight, 5.0)
    return case(model)


@warns("norm_parameters")
def norm_shut() -> Case:
    model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4))
    nn.init.zeros_(norm_at(model, 1).weight)
    return case(model)


@warns("recurrent_weights")
def wild_recurrence() -> Case:
    wild = recurrent(nn.RNN)
    assert isinstance(wild.model, Recurrent)
    nn.init.normal_(dict(wild.model.layer.named_parameters())["weight_hh_l0"])
    return wild


@warns("activations")
def deep_sigmoid() -> Case:
    return case(deep(nn.Sigmoid))


@warns("activations")
def deep_tanh() -> Case:
    return case(deep(nn.Tanh))


@warns("gradients_arrive")
def detached() -> Case:
    model = mlp()
    return case(model).but(
        train_fn=lambda pair: F.cross_entropy(model[2](model[1](model[0](pair[0])).detach()), pair[1])
    )


@warns("saturated_at_start")
def saturated() -> Case:
    model = mlp(hidden=nn.Tanh)
    nn.init.normal_(at(model, 0).weight, std=5.0)
    return case(model)
