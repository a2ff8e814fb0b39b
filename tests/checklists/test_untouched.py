"""Neither preflight nor diagnose leaves a trace."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from supervisor import diagnose
from tests.checklists.models import Case, case


def trace(modules: list[nn.Module], optimizer: torch.optim.Optimizer, batch: Any) -> list[Any]:
    """Return everything that must be the same afterwards; gradients also by identity."""
    seen: list[Any] = [torch.get_rng_state(), repr(random.getstate()), repr(np.random.get_state()), *batch]  # noqa: NPY002
    for module in modules:
        seen += [t.detach().clone() for t in (*module.parameters(), *module.buffers())]
        seen += [None if p.grad is None else p.grad.clone() for p in module.parameters()]
        seen += [id(p.grad) if p.grad is not None else 0 for p in module.parameters()]
        seen += [m.training for m in module.modules()] + [p.requires_grad for p in module.parameters()]
        seen += [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules()]
    for state in optimizer.state.values():
        seen += [v.clone() if isinstance(v, torch.Tensor) else v for v in state.values()]
    return [*seen, *(repr({k: v for k, v in g.items() if k != "params"}) for g in optimizer.param_groups)]


def equal(one: list[Any], other: list[Any]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


class Careless:
    """A train step that changes modes, writes into its batch, draws random numbers, and asks a teacher."""

    def __init__(self, model: nn.Module, teacher: nn.Module, bias: nn.Parameter) -> None:
        self.model, self.teacher, self.bias = model, teacher, bias

    def __call__(self, batch: Any) -> torch.Tensor:
        inputs, target = batch
        inputs += random.random() * torch.randn_like(inputs) * float(np.random.rand())  # noqa: NPY002
        self.model.train()
        soft = F.softmax(self.teacher(inputs), 1)
        return F.cross_entropy(self.model(inputs), target) + F.mse_loss(soft, torch.zeros_like(soft) + self.bias)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))


LOOKS: dict[str, Callable[[Case], object]] = {
    "preflight": lambda one: one.check(),
    "diagnose": lambda one: diagnose(one.model, one.optimizer, [one.batch] * 3, one.train_fn),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("stepped", [False, True])
def test_everything_is_bit_identical_afterwards(look: str, *, stepped: bool) -> None:
    """With and without gradients and moments, in eval mode, with a teacher and a parameter beside the model."""
    model, teacher, bias = network(), network(), nn.Parameter(torch.zeros(4))
    one = case(model)
    optimizer = torch.optim.Adam([*model.parameters(), bias], amsgrad=True)
    one = one.but(train_fn=Careless(model, teacher, bias), optimizer=optimizer)
    if stepped:
        one.train_fn(one.batch).backward()
        optimizer.step()
    model.eval()
    before = trace([model, teacher], optimizer, [t.clone() for t in one.batch])
    LOOKS[look](one)
    assert equal(before, trace([model, teacher], optimizer, one.batch))
    assert (bias.grad is not None) == stepped


def test_a_step_that_the_train_step_takes_itself_is_undone() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train(batch: Any) -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.item()

    one = case(model).but(train_fn=train, optimizer=optimizer)
    before = trace([model], optimizer, one.batch)
    assert one.check()["gradients_arrive"].status == "passed"
    assert equal(before, trace([model], optimizer, one.batch))


def test_a_pass_that_fails_leaves_no_trace_either() -> None:
    model = network()

    def train(batch: Any) -> torch.Tensor:
        model(batch[0]).sum().backward()
        model.eval()
        message = "out of patience"
        raise RuntimeError(message)

    optimizer = torch.optim.Adam(model.parameters())
    one = case(model).but(train_fn=train, optimizer=optimizer)
    before = trace([model], optimizer, one.batch)
    assert "out of patience" in one.check()["train_step"].reason
    assert equal(before, trace([model], optimizer, one.batch))
