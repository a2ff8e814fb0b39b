"""Trainings with a fault in the data or in how output and loss fit."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.checklists.models import (
    Case,
    case,
    mlp,
    regression,
)
from tests.checklists.warned import warns


def scaled(factor: float, shift: float = 0.0) -> Case:
    return case(mlp(), (shift + factor * torch.randn(64, 20), torch.randint(4, (64,))))


@warns("inputs_finite")
def missing_value() -> Case:
    inputs = torch.randn(64, 20)
    inputs[3, 4] = torch.nan
    return case(mlp(), (inputs, torch.randint(4, (64,))))


@warns("inputs_scale")
def raw_pixels() -> Case:
    return case(mlp(), (torch.randint(256, (64, 20)).float(), torch.randint(4, (64,))))


@warns("inputs_scale")
def tiny_inputs() -> Case:
    return scaled(1e-5)


@warns("inputs_scale")
def not_centred() -> Case:
    return scaled(0.01, shift=5.0)


@warns("inputs_scale")
def uneven_features() -> Case:
    inputs = 1e-3 * torch.randn(64, 20)
    inputs[:, 0] *= 1e4
    return case(mlp(), (inputs, torch.randint(4, (64,))))


@warns("targets_finite")
def missing_target() -> Case:
    return regression(mlp(outputs=1), torch.full((64, 1), torch.nan))


@warns("targets_range")
@warns("train_step")
def labels_from_one() -> Case:
    return case(mlp(), (torch.randn(64, 20), torch.randint(1, 5, (64,)) | 4))


@warns("targets_range")
def house_prices() -> Case:
    return regression(mlp(outputs=1), 1e5 * torch.randn(64, 1))


@warns("output_matches_loss")
def softmax_before_cross_entropy() -> Case:
    return case(mlp(nn.Softmax(1)))


@warns("output_matches_loss")
def softmax_by_hand() -> Case:
    def loss(out: Tensor, target: Tensor) -> Tensor:
        powers = out.exp()
        return F.cross_entropy(powers / powers.sum(1, keepdim=True), target)

    return case(mlp(), loss=loss)


@warns("output_matches_loss")
def sigmoid_before_cross_entropy() -> Case:
    return case(mlp(nn.Sigmoid()))


@warns("output_matches_loss")
def relu_on_the_output() -> Case:
    return case(mlp(nn.ReLU()))


@warns("output_matches_loss")
def softmax_without_log() -> Case:
    return case(mlp(nn.Softmax(1)), loss=F.nll_loss)


@warns("output_matches_loss")
def raw_outputs_as_log_probabilities() -> Case:
    return case(mlp(), loss=F.nll_loss)


@warns("output_matches_loss")
def sigmoid_twice() -> Case:
    pair = (torch.randn(64, 20), torch.randint(2, (64, 1)).float())
    return case(mlp(nn.Sigmoid(), outputs=1), pair, F.binary_cross_entropy_with_logits)


@warns("output_matches_loss")
@warns("train_step")
def raw_outputs_as_probabilities() -> Case:
    return case(mlp(outputs=1), (torch.randn(64, 20), torch.ones(64, 1)), F.binary_cross_entropy)


@warns("output_matches_loss")
def one_output_unit() -> Case:
    return case(mlp(outputs=1), (torch.randn(64, 20), torch.zeros(64, dtype=torch.long)))


@warns("output_matches_loss")
def squared_error_on_labels() -> Case:
    return regression(mlp(outputs=1), torch.randint(4, (64, 1)).float())


@warns("output_matches_loss")
def squared_error_on_one_hot() -> Case:
    return regression(mlp(), F.one_hot(torch.randint(4, (64,)), 4).float())


@warns("output_matches_loss")
def shapes_broadcast() -> Case:
    return regression(mlp(outputs=1), torch.randn(64))


@warns("output_matches_loss")
def targets_beyond_a_sigmoid() -> Case:
    return regression(mlp(nn.Sigmoid(), outputs=1), torch.randn(64, 1))


@warns("loss_finite")
def logarithm_of_zero() -> Case:
    return case(mlp(), loss=lambda out, target: (out.mean() * 0).log() + F.cross_entropy(out, target))


@warns("initial_loss")
def confidently_wrong() -> Case:
    return case(mlp(), loss=lambda out, target: F.cross_entropy(100 * out, target))


@warns("initial_loss")
def known_beforehand() -> Case:
    def loss(out: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(out + 20 * F.one_hot(target, 4), target)

    return case(mlp(), loss=loss)
