"""The examination of a model as it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from supervisor import diagnose
from supervisor.checklists.figures import Examination
from supervisor.errors import UsageError
from tests.checklists.models import Case, at, case, deep, mlp, recurrent, weights


def examined(one: Case, batches: int = 4) -> Examination:
    data = [(torch.randn_like(one.batch[0]), one.batch[1]) for _ in range(batches)]
    return diagnose(one.model, one.optimizer, data, one.train_fn, batches=batches)


def bias(value: float) -> Case:
    model = mlp()
    nn.init.constant_(at(model, 0).bias, value)
    return case(model)


def not_finite() -> Case:
    model = mlp()
    nn.init.constant_(at(model, 2).bias, torch.inf)
    return case(model)


def saturated() -> Case:
    model = mlp(hidden=nn.Tanh)
    nn.init.normal_(at(model, 0).weight, std=5.0)
    return case(model)


def wild() -> Case:
    one = recurrent(nn.RNN)
    nn.init.normal_(one.model.get_submodule("layer").weight_hh_l0, std=0.1)  # type: ignore[arg-type]
    return one.but(batch=(torch.randn(64, 60, 8), one.batch[1]))


ILL: list[tuple[str, str, Callable[[], Case]]] = [
    ("vanishing_gradients", "activation functions", lambda: case(deep(nn.Sigmoid))),
    (
        "vanishing_gradients",
        "poor initialization",
        lambda: case(weights(deep(), lambda weight: nn.init.normal_(weight, std=0.02))),
    ),
    ("vanishing_gradients", "recurrent network", wild),
    ("exploding_gradients", "large weights", lambda: case(weights(deep(), nn.init.normal_))),
    ("dead_units", "large negative bias", lambda: bias(-20.0)),
    ("saturation", "large weights", saturated),
    ("unstable_training", "large learning rate", lambda: case(mlp(), lr=1.0)),
    ("plateau", "small learning rate", lambda: case(mlp(), lr=1e-9)),
    ("plateau", "symmetric units", lambda: case(weights(mlp(), lambda weight: nn.init.constant_(weight, 0.1)))),
    ("plateau", "output and loss do not match", lambda: case(mlp(nn.Softmax(1)))),
    ("non_finite", "non-finite parameters", not_finite),
]


@pytest.mark.parametrize(("pathology", "cause", "build"), ILL, ids=[f"{p}-{c}" for p, c, _ in ILL])
def test_what_ails_a_model_is_named_with_its_cause(pathology: str, cause: str, build: Callable[[], Case]) -> None:
    torch.manual_seed(0)
    found = {finding.pathology: finding for finding in examined(build()).findings}
    assert pathology in found
    assert found[pathology].cause == cause


def test_the_table_tells_the_chain_rule_of_this_network() -> None:
    """The factors of the layers multiply to what arrives; each sigmoid leaves at most a quarter."""
    torch.manual_seed(0)
    result = examined(case(deep(nn.Sigmoid)))
    factors = [layer.amplification for layer in result.layers[:-1]]
    assert math.isclose(math.prod(factors), result.amplification, rel_tol=1e-4)
    assert max(factors) < 0.25
    assert math.isclose(result.bound, 0.25**11)
    assert (result.depth, result.shortest) == (12, 12)


def test_the_table_tells_signal_silence_and_the_next_step() -> None:
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        at(model, 0).bias[:16] = -50.0
    one = case(model)
    first, last = examined(one).layers
    hidden = torch.relu(model[0](torch.randn(4096, 20)))
    assert math.isclose(first.mean, float(hidden.detach().mean()), rel_tol=0.1)
    assert math.isclose(first.std, float(hidden.detach().std()), rel_tol=0.1)
    assert first.silent == 0.25
    before = at(model, 2).weight.detach().clone()
    one.train_fn(one.batch).backward()
    assert isinstance(one.optimizer, torch.optim.Optimizer)
    one.optimizer.step()
    moved = float((at(model, 2).weight.detach() - before).norm() / before.norm())
    assert math.isclose(last.update_ratio, moved, rel_tol=0.1)


def test_an_examination_needs_no_optimizer() -> None:
    one = case(mlp())
    result = diagnose(one.model, None, iter([one.batch] * 2), one.train_fn, batches=8)
    assert result.batches == 2
    assert all(math.isnan(layer.update_ratio) for layer in result.layers)


def test_it_is_told_as_text_as_plain_data_and_as_a_picture(tmp_path: Path) -> None:
    result = examined(case(deep(nn.Sigmoid)))
    assert all(layer.name in str(result) for layer in result.layers)
    assert "vanishing_gradients" in str(result)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["healthy"] is False
    picture = result.plot(tmp_path / "layers.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": []}, "data: it is empty"),
        ({"data": None}, "data, train_fn: expected batches"),
        ({"train_fn": None}, "data, train_fn: expected batches"),
        ({"batches": 0}, "batches: expected a whole number"),
        ({"model": "net"}, "model: expected a torch.nn.Module"),
        ({"train_fn": lambda _batch: 3.0}, "train_fn: returned a value float"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, object], message: str) -> None:
    one = case(mlp())
    arguments = {"model": one.model, "optimizer": one.optimizer, "data": [one.batch], "train_fn": one.train_fn}
    with pytest.raises(UsageError, match=message):
        diagnose(**{**arguments, **change})  # type: ignore[arg-type]


def test_a_picture_that_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    result = examined(case(mlp()), 1)
    with pytest.raises(UsageError, match="no folder"):
        result.plot(tmp_path / "nowhere" / "layers.png")
    with pytest.raises(UsageError, match="not supported"):
        result.plot(tmp_path / "layers.picture")
