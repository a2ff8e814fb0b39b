"""The initialization checklist as an action."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor import initialize_
from supervisor.errors import UsageError
from tests.checklists.models import Language, at, case, deep, norm_at, recurrent, weights


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())


class Functional(nn.Module):
    """Its activations are seen by running it only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, 256), nn.Linear(256, 256), nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.tanh(self.second(F.relu(self.first(x)))))
        return out


def test_an_ill_begun_network_passes_the_initialization_checklist_afterwards() -> None:
    torch.manual_seed(0)
    model = weights(deep(), nn.init.normal_)
    done = initialize_(model)
    result = case(model).check()
    assert {item.status for item in result.items if item.topic == "initialization"} <= {"passed", "not applicable"}
    assert [one.parameter for one in done.done] == [name for name, _ in model.named_parameters()]


def test_each_layer_gets_what_the_following_it_calls_for() -> None:
    torch.manual_seed(0)
    model = Functional()
    methods = {d.parameter: d.method for d in initialize_(model, lambda: model(torch.randn(8, 64))).done}
    assert methods["first.weight"] == "He normal, before relu"
    assert methods["second.weight"] == "Xavier uniform, before tanh"
    assert methods["out.weight"] == "Xavier uniform, before no activation"
    assert math.isclose(rms(model.first.weight), math.sqrt(2 / 64), rel_tol=0.05)
    assert math.isclose(rms(model.second.weight), math.sqrt(1 / 256), rel_tol=0.05)
    assert not model.first.bias.any()


def test_recurrent_matrices_are_orthogonal_and_the_forget_gate_is_open() -> None:
    model = recurrent(nn.LSTM).model
    initialize_(model)
    layer = model.get_submodule("layer")
    state = layer.state_dict()
    for block in state["weight_hh_l0"].split(32):
        assert torch.allclose(block @ block.T, torch.eye(32), atol=1e-5)
    assert torch.equal((state["bias_ih_l0"] + state["bias_hh_l0"])[32:64], torch.ones(32))


def test_embeddings_tied_weights_frozen_and_unknown_parameters_are_left_and_named() -> None:
    model = Language()
    model.out.weight = model.embed.weight
    model.body.layers[0].requires_grad_(requires_grad=False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    left = initialize_(model).left
    assert (left["embed.weight"], left["position"]) == ("an embedding", "of a Language")
    assert left["body.layers.0.linear1.weight"] == "frozen"
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters() if name in left)


def test_normalizations_start_neutral_with_fresh_statistics() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.constant_(norm_at(model, 1).weight, 7.0)
    model(5 + torch.randn(32, 8))
    told = str(initialize_(model))
    assert "1.weight  one: 7 -> 1" in told
    assert torch.equal(norm_at(model, 1).state_dict()["running_mean"], torch.zeros(16))


def test_looking_at_the_forward_pass_changes_no_buffer_and_draws_no_random_number() -> None:
    """Two models, one of them looked at through dropout first, are initialized alike."""
    models = [nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 4)) for _ in range(2)]
    for i, model in enumerate(models):
        torch.manual_seed(0)
        initialize_(model, (lambda model=model: model(torch.randn(4, 8))) if i else None)  # type: ignore[misc]
    assert torch.equal(at(models[0], 3).weight, at(models[1], 3).weight)


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
        initialize_("net")  # type: ignore[arg-type]
