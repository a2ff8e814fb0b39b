"""Bad input gets a clear error before the first step, and costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from supervisor import Training, supervise
from supervisor.errors import PolicyError, SupervisorError, UsageError
from tests.entry.trainings import Batch, Lab, batches, lab, picture


@dataclass
class Bad:
    """One mistake, and the words in which it must be told."""

    told: str
    step: Callable[[Lab], Any] | None = None  # makes the train step
    error: type[SupervisorError] = UsageError
    arguments: Callable[[Lab], dict[str, Any]] = field(default=lambda _: {})


def loss(training: Lab, batch: Batch) -> torch.Tensor:
    return nn.functional.cross_entropy(training.model(batch[0]), batch[1])


def returns(result: Callable[[torch.Tensor], Any]) -> Callable[[Lab], Any]:
    """Make a train step that computes the loss and returns something else."""
    return lambda training: lambda batch: result(loss(training, batch))


def steps_itself(training: Lab) -> Callable[[Batch], torch.Tensor]:
    def step(batch: Batch) -> torch.Tensor:
        training.optimizers[0].zero_grad()
        value = loss(training, batch)
        value.backward()
        training.optimizers[0].step()
        return value

    return step


def calls_backward(**how: bool) -> Callable[[Lab], Callable[[Batch], torch.Tensor]]:
    def make(training: Lab) -> Callable[[Batch], torch.Tensor]:
        def step(batch: Batch) -> torch.Tensor:
            value = loss(training, batch)
            value.backward(**how)
            return value

        return step

    return make


def without_grad(training: Lab) -> Callable[[Batch], torch.Tensor]:
    return torch.no_grad()(lambda batch: loss(training, batch))


def of_another_model(_: Lab) -> Callable[[Batch], torch.Tensor]:
    other = nn.Linear(6, 1)
    return lambda batch: other(batch[0]).mean()


def given(**arguments: Any) -> Callable[[Lab], dict[str, Any]]:
    return lambda _: arguments


def foreign(_: Lab) -> dict[str, Any]:
    return {"optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)}


def empty_loader(_: Lab) -> dict[str, Any]:
    return {"data": DataLoader(TensorDataset(torch.zeros(0, 6)), batch_size=4)}


MISTAKES = {
    "no loss": Bad("returned a value None; expected a scalar tensor. Add `return loss`", returns(lambda _: None)),
    "a number": Bad("returned a value float", returns(lambda value: value.item())),
    "a mapping without loss": Bad('mapping whose "loss" is None', returns(lambda value: {"nll": value})),
    "not scalar": Bad("a loss of shape (2,); expected a scalar. Return loss.mean()", returns(lambda v: v.expand(2))),
    "detached": Bad("a loss that needs no grad", returns(lambda value: value.detach())),
    "no grad": Bad("do not compute it under torch.no_grad()", without_grad),
    "another model": Bad("reached none of the parameters that the optimizer holds", of_another_model),
    "steps itself": Bad("it calls optimizer.step() itself", steps_itself),
    "calls backward": Bad("it calls backward() itself, but no optimizer step", calls_backward()),
    "calls backward, keeps the graph": Bad("it calls backward() itself", calls_backward(retain_graph=True)),
    "takes no batch": Bad("train_fn: cannot be called with one batch", lambda _: lambda: None),
    "takes two batches": Bad("train_fn: cannot be called with one batch", lambda _: lambda a, b: a + b),
    "no function": Bad("train_fn: expected a function of one batch", lambda _: 3),
    "no model": Bad("model: expected a torch.nn.Module, got None", arguments=given(model=None)),
    "no optimizer": Bad("optimizer: expected a torch.optim.Optimizer", arguments=given(optimizer=None)),
    "no optimizers": Bad("optimizer: expected a torch.optim.Optimizer", arguments=given(optimizer=[])),
    "foreign optimizer": Bad("it holds none of the model's trainable parameters", arguments=foreign),
    "closure": Bad(
        "optimizer: LBFGS needs a closure", arguments=lambda it: {"optimizer": torch.optim.LBFGS(it.model.parameters())}
    ),
    "no data": Bad("data: expected an iterable of batches", arguments=given(data=None)),
    "empty list": Bad("data: it is empty", arguments=given(data=[])),
    "used up": Bad("data: it is empty", arguments=given(data=iter(()))),
    "empty loader": Bad("data: it is empty", arguments=empty_loader),
    "unknown policy": Bad(
        "no shipped policy 'defualt'. Did you mean 'default'?", error=PolicyError, arguments=given(policy="defualt")
    ),
    "missing policy file": Bad("mine.yaml", error=PolicyError, arguments=given(policy="mine.yaml")),
    "tracking": Bad("Did you mean 'mlflow'?", arguments=given(tracking="mlfow")),
    "steps": Bad("steps: expected a whole number of at least 1, got 0", arguments=given(steps=0)),
    "steps, a float": Bad("steps: expected a whole number of at least 1, got 1.5", arguments=given(steps=1.5)),
    "epochs": Bad("epochs: expected a whole number of at least 1, got -1", arguments=given(epochs=-1)),
    "accumulate": Bad("accumulate: expected a whole number of at least 1, got 0", arguments=given(accumulate=0)),
    "accumulate, None": Bad("accumulate: expected a whole number", arguments=given(accumulate=None)),
    "evaluate_every": Bad("evaluate_every: there is nothing to evaluate", arguments=given(evaluate_every=5)),
    "resume": Bad("resume: not yet available", arguments=given(resume=True)),
    "scaler": Bad("scaler: not yet available", arguments=lambda _: {"scaler": torch.amp.GradScaler("cpu")}),
    "context": Bad("context.kind: unknown kind 'gna'. Did you mean 'gan'?", arguments=given(context="gna")),
    "context, no mapping": Bad("context: expected 'gan', ", arguments=given(context=3)),
    "context, a layer": Bad(
        "no layer of the model is called 'decoder'", arguments=given(context={"frozen": ["decoder"]})
    ),
    "run_dir is a file": Bad("is a file. Give a folder", arguments=given(run_dir="occupied")),
}


@pytest.mark.parametrize(("seed", "tracking"), [(None, None), (0, None), (None, "mlflow")])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_told_and_costs_nothing(mistake: str, seed: int | None, tracking: str | None, tmp_path: Path) -> None:
    """Model, buffers, optimizer and all random numbers are as before, and no file was written."""
    bad = MISTAKES[mistake]
    training = lab()
    loader = DataLoader(TensorDataset(*batches(1, size=40)[0]), batch_size=8, shuffle=True)
    (tmp_path / "occupied").touch()
    arguments: dict[str, Any] = {
        "model": training.model, "optimizer": training.optimizers, "data": loader, "seed": seed, "tracking": tracking,
        **bad.arguments(training),
    }  # fmt: skip
    step = bad.step(training) if bad.step is not None else training.train_step
    before = picture(training)
    with pytest.raises(bad.error) as raised:
        supervise(step, **arguments)
    assert bad.told in str(raised.value)
    assert picture(training) == before
    assert all(p.grad is None for p in training.model.parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["occupied"]


def test_a_mistake_in_a_later_micro_batch_of_the_first_step_costs_nothing_either(tmp_path: Path) -> None:
    training = lab()
    before = picture(training)

    def second_is_none(batch: Batch) -> torch.Tensor | None:
        value = training.train_step(batch)
        return None if training.calls == 2 else value

    with pytest.raises(UsageError, match="Add `return loss`"):
        supervise(
            second_is_none, model=training.model, optimizer=training.optimizers, data=batches(4), accumulate=2,
            tracking=None,
        )  # fmt: skip
    assert picture(training) == before
    assert list(tmp_path.iterdir()) == []


def test_the_hook_that_refuses_a_users_step_is_gone_afterwards() -> None:
    training = lab()
    with pytest.raises(UsageError):
        supervise(steps_itself(training), model=training.model, optimizer=training.optimizers, data=batches(2))
    training.bare([one] for one in batches(2))


def test_a_recorded_run_is_not_recorded_over() -> None:
    lab().supervised(batches(2))
    training = lab()
    before = picture(training)
    with pytest.raises(UsageError, match="holds a recorded run already"):
        training.supervised(batches(2))
    assert picture(training) == before


@pytest.mark.parametrize("result", [lambda v: v.reshape(1), lambda v: v.reshape(1, 1), lambda v: {"loss": v, "a": 1}])
def test_what_holds_a_loss_is_accepted(result: Callable[[torch.Tensor], Any]) -> None:
    training = lab()
    report = supervise(
        lambda batch: result(training.train_step(batch)), model=training.model, optimizer=training.optimizers,
        data=batches(3), tracking=None, progress=False,
    )  # fmt: skip
    assert report.steps == 3


@pytest.mark.parametrize(("metrics", "told"), [("good", "got str"), ({"loss": "low"}, "got dict")])
def test_an_evaluation_that_gives_no_numbers_is_told(metrics: Any, told: str) -> None:
    with pytest.raises(UsageError, match=f"evaluate: expected a number.*{told}"):
        lab().supervised(batches(3), evaluate=lambda: metrics)


def test_a_training_as_one_value_and_arguments_beside_it() -> None:
    training = lab()
    asked = Training(
        training.train_step, model=training.model, optimizer=training.optimizers, data=batches(9), steps=7,
        tracking=None, progress=False,
    )  # fmt: skip
    assert supervise(asked, steps=4, run_dir="run").steps == 4


def test_a_one_shot_iterator_is_not_asked_for_more_than_it_needs() -> None:
    def endless() -> Iterator[Batch]:
        while True:
            pulled.append(1)
            yield from batches(1)

    pulled: list[int] = []
    lab().supervised(endless(), steps=4, accumulate=2)
    assert len(pulled) == 8
