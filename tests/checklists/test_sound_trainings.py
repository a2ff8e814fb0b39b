"""What PyTorch builds by default, in usual sizes, is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from supervisor import diagnose
from tests.checklists.models import (
    Case,
    at,
    autoencoder,
    case,
    cnn,
    deep,
    language,
    mlp,
    recurrent,
    regression,
    resnet,
    weights,
)


def binary() -> Case:
    def loss(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(out.squeeze(1), target)

    return case(mlp(outputs=1), (torch.randn(64, 20), torch.randint(2, (64,)).float()), loss)


def normed() -> Case:
    return case(nn.Sequential(weight_norm(nn.Linear(20, 64)), nn.ReLU(), spectral_norm(nn.Linear(64, 4))))


def zero_output() -> Case:
    model = mlp()
    nn.init.zeros_(at(model, 2).weight)
    return case(model)


def half() -> Case:
    return case(mlp().bfloat16(), (torch.randn(64, 20).bfloat16(), torch.randint(4, (64,))))


def sparse() -> Case:
    model = nn.Sequential(nn.EmbeddingBag(100, 16, sparse=True), nn.Linear(16, 4))
    held = [torch.optim.SparseAdam(model[0].parameters()), torch.optim.Adam(model[1].parameters())]
    return case(model, (torch.randint(100, (32, 5)), torch.randint(4, (32,)))).but(optimizer=held)


SOUND: dict[str, Callable[[], Case]] = {
    "mlp": lambda: case(mlp()),
    "tanh": lambda: regression(mlp(hidden=nn.Tanh, outputs=1)),
    "binary": binary,
    "cnn": cnn,
    "resnet": resnet,
    "resnet with gated branches": lambda: resnet(gated=True),
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
    "rnn": lambda: recurrent(nn.RNN),
    "transformer": language,
    "autoencoder": autoencoder,
    "log softmax before nll": lambda: case(mlp(nn.LogSoftmax(1)), loss=F.nll_loss),
    "output layer begun at zero": zero_output,
    "parametrized weights": normed,
    "half precision": half,
    "sparse gradients": sparse,
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_warned_and_nothing_is_found(name: str) -> None:
    torch.manual_seed(0)
    sound = SOUND[name]()
    result = sound.check()
    assert [(item.name, item.reason) for item in result.warnings] == []
    assert not [item.reason for item in result.items if "could not be told" in item.reason]
    assert diagnose(sound.model, sound.optimizer, [sound.batch] * 4, sound.train_fn).findings == ()


def test_a_deep_plain_network_is_told_its_known_weaknesses_and_no_others() -> None:
    """He initialization keeps twelve plain layers alive; that they have neither skips nor norms is still said."""
    torch.manual_seed(0)
    warned = [item.name for item in case(weights(deep(), nn.init.kaiming_normal_)).check().warnings]
    assert warned == ["residuals", "normalization"]
