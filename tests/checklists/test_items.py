"""Every item has a training that it warns about, with a figure; the sound ones pass it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from supervisor import preflight
from supervisor.checklists.checking import CHECKS
from tests.checklists import faulty_data, faulty_setup, faulty_start
from tests.checklists.models import (
    CLIPPING,
    Case,
    case,
    deep,
    mlp,
    recurrent,
    regression,
    resnet,
)
from tests.checklists.warned import WARNED

FAULTY = (faulty_data, faulty_setup, faulty_start)  # each notes what it holds in WARNED
PAIRS = [pytest.param(item, build, id=f"{item}-{build.__name__}") for item, all_ in WARNED.items() for build in all_]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(("item", "build"), PAIRS)
def test_a_fault_is_warned_with_a_reason_and_advice(item: str, build: Callable[[], Case]) -> None:
    torch.manual_seed(0)
    answer = build().check()[item]
    assert (answer.status, bool(answer.advice)) == ("warned", True), answer.reason


def test_every_item_has_a_training_that_is_warned_and_one_that_passes() -> None:
    items = {check.__name__ for checks in CHECKS.values() for check in checks}
    torch.manual_seed(0)
    frozen_backbone = mlp()
    frozen_backbone[0].requires_grad_(requires_grad=False)
    tanh = regression(mlp(hidden=nn.Tanh, outputs=1))
    sound = [case(deep(depth=4)), resnet(), recurrent(nn.LSTM), tanh, case(frozen_backbone)]
    passed = {item.name for one in sound for item in one.check().of("passed")}
    assert (set(WARNED), passed) == (items, items)


def test_a_pass_that_fails_is_told_and_what_needs_it_does_not_apply() -> None:
    result = case(mlp(), (torch.randn(64, 21), torch.randint(4, (64,)))).check()
    assert not result.started
    assert "cannot be multiplied" in result["train_step"].reason
    assert result["gradients_arrive"].status == "not applicable"


def test_a_rate_of_zero_that_a_scheduler_warms_up_passes() -> None:
    one = case(mlp())
    assert isinstance(one.optimizer, torch.optim.Optimizer)
    scheduler = torch.optim.lr_scheduler.LambdaLR(one.optimizer, lambda step: step / 10)
    result = preflight(one.model, one.optimizer, one.batch, one.train_fn, scheduler=scheduler, policy=CLIPPING)
    assert (result["learning_rate"].status, result["first_step"].status) == ("passed", "passed")


def test_a_parameter_beside_the_model_that_is_trained_is_no_stranger() -> None:
    model, temperature = mlp(), nn.Parameter(torch.ones(()))
    trained = case(model, loss=lambda out, target: F.cross_entropy(out * temperature, target))
    held = torch.optim.Adam([*model.parameters(), temperature])
    assert trained.but(optimizer=held).check()["parameters_foreign"].status == "passed"


def test_the_list_prints_every_item_and_turns_into_plain_data() -> None:
    result = case(mlp(nn.Softmax(1))).check()
    assert all(item.name in str(result) and item.reason in str(result) for item in result.items)
    facts = result.to_dict()
    assert facts["counts"]["warned"] == len(result.warnings) > 0
    assert {item["status"] for item in facts["items"]} == {"passed", "warned", "not applicable"}
    assert not result.ok
