"""Which layers a model has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supervisor.signals.anatomy import layers_of
from tests.signals.watching import Transformer


def kinds(model: nn.Module) -> dict[str, str]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return {entry.layer.name: entry.layer.kind for entry in layers_of(model, trained)}


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Linear(2, 3), "linear"), (nn.Bilinear(2, 2, 3), "linear"), (nn.Conv1d(1, 1, 3), "conv"),
        (nn.ConvTranspose2d(1, 1, 3), "conv"), (nn.GRU(2, 3), "recurrent"), (nn.LSTMCell(2, 3), "recurrent"),
        (nn.BatchNorm1d(3), "norm"), (nn.LayerNorm(3), "norm"), (nn.GroupNorm(1, 3), "norm"),
        (nn.Embedding(3, 2), "embedding"), (nn.PReLU(), "other"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)  # fmt: skip
def test_every_layer_has_its_kind(module: nn.Module, kind: str) -> None:
    assert kinds(nn.Sequential(module)) == {"0": kind}


def test_a_tied_weight_belongs_to_its_first_owner() -> None:
    model = Transformer()
    assert "head" not in kinds(model)
    entries = layers_of(model, list(model.parameters()))
    held = [id(p) for entry in entries for p in entry.parameters]
    assert len(held) == len(set(held)) == len(list(model.parameters()))


def test_only_trained_parameters_make_a_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3).requires_grad_(requires_grad=False), nn.ReLU())
    assert list(kinds(model)) == ["0"]


def test_a_model_that_is_one_layer_has_a_name() -> None:
    assert kinds(nn.Linear(2, 3)) == {"model": "linear"}


def test_a_parametrized_weight_is_found_once() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)))
    (entry,) = [e for e in layers_of(model, list(model.parameters())) if e.layer.size > 3]
    assert entry.layer.name == "0.parametrizations.weight"
    assert torch.is_tensor(entry.parameters[0])
