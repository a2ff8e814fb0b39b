"""Repeating recorded surgeries on a fresh model."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from supervisor.errors import UsageError
from supervisor.remedies.rebuild import rebuild

SWAP = {"kind": "swap_activation", "to": "gelu", "modules": ["1"], "calls": []}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))


def test_changes_read_back_from_json_do_the_same() -> None:
    model = rebuild(net(), json.loads(json.dumps([SWAP])))
    assert isinstance(model[1], nn.GELU)


def test_no_changes_leave_the_model_as_it_is() -> None:
    model, inputs = net(), torch.randn(3, 2)
    before = model(inputs)
    assert torch.equal(rebuild(model, [])(inputs), before)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "transplant"}, r"changes\[1\]: kind 'transplant'"),
        ({"kind": "lower_lr"}, r"changes\[1\]: kind 'lower_lr'"),
        ({"kind": "swap_activation", "to": "relu", "modules": ["9"], "calls": []}, "no module '9'"),
        ({"kind": "swap_activation"}, "modules"),
        ({"kind": "swap_activation", "to": "rellu", "modules": ["1"], "calls": []}, "rellu"),
    ],
)
def test_a_change_that_does_not_fit_is_named_and_the_earlier_ones_are_taken_back(
    change: dict[str, object], why: str
) -> None:
    model = net()
    with pytest.raises(UsageError, match=why):
        rebuild(model, [SWAP, change])
    assert isinstance(model[1], nn.Tanh)
