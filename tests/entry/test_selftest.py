"""Does a training do the same again? Sound ones pass, and what keeps one from it is named."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from supervisor.entry.selftest import SelftestResult, selftest
from supervisor.entry.training import Training
from supervisor.errors import UsageError
from tests.entry.optimizers import OPTIMIZERS, SCHEDULERS
from tests.entry.trainings import Batch, Lab, batches, lab, picture


def checked(training: Lab, train_fn: Callable[[Batch], Any] | None = None, **more: Any) -> SelftestResult:
    arguments = {"data": batches(6), "scheduler": training.scheduler, **more}
    return selftest(train_fn or training.train_step, model=training.model, optimizer=training.optimizers, **arguments)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_sound_training_passes_and_is_afterwards_what_it_was(optimizer: str) -> None:
    """Dropout, BatchNorm, buffers assigned in forward, and the counter and the list of losses of its lab."""
    training = lab(optimizer, SCHEDULERS["cosine"])
    training.bare([[batch] for batch in batches(3)])
    gradients = [p.grad for p in training.model.parameters()]
    before = picture(training)
    result = checked(training)
    assert result == SelftestResult(ok=True, steps=5)
    assert result.summary() == "selftest passed: 5 steps, restored and run again, were bit-identical"
    assert picture(training) == before
    assert all(p.grad is was for p, was in zip(training.model.parameters(), gradients, strict=True))


def test_random_numbers_of_a_shuffled_loader_are_given_back() -> None:
    x = torch.randn(40, 6)
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(x, x.argmax(1) % 3), batch_size=8, shuffle=True, generator=generator)
    training = lab("adam")
    before, own = picture(training), generator.get_state()
    assert checked(training, data=loader).ok
    assert picture(training) == before
    assert torch.equal(generator.get_state(), own)


def test_a_training_object_is_taken_too() -> None:
    training = lab("adam")
    given = Training(training.train_step, training.model, training.optimizers, batches(4), steps=2, accumulate=2)
    result = selftest(given, steps=3)
    assert (result.ok, result.steps) == (True, 3)


def counting(training: Lab) -> Callable[[Batch], Tensor]:
    count = itertools.count()
    calls = {"calls": 0}

    def train_fn(batch: Batch) -> Tensor:
        calls["calls"] = next(count)
        return training.train_step(batch) * (1 + 0.1 * calls["calls"])

    return train_fn


def own_noise(training: Lab) -> Callable[[Batch], Tensor]:
    noise = torch.Generator().manual_seed(1)

    def train_fn(batch: Batch) -> Tensor:
        return training.train_step((batch[0] + torch.randn(batch[0].shape, generator=noise), batch[1]))

    return train_fn


def clock(training: Lab) -> Callable[[Batch], Tensor]:
    return lambda batch: training.train_step((batch[0] + time.perf_counter(), batch[1]))


@pytest.mark.parametrize(
    ("hidden", "suspect"),
    [(counting, "calls['calls'] (int)"), (own_noise, "noise (torch.Generator)"), (clock, "")],
)
def test_a_loss_that_depends_on_hidden_state_is_caught_and_the_state_named(
    hidden: Callable[[Lab], Callable[[Batch], Tensor]], suspect: str,
) -> None:  # fmt: skip
    training = lab("adam")
    before = picture(training)
    result = checked(training, hidden(training))
    assert (result.ok, result.first_difference) == (False, "loss")
    assert "In step 1 of 5" in result.detail
    assert "Register what has a state" in result.detail
    assert not suspect or suspect in result.suspects
    assert suspect in result.summary()
    assert picture(training) == before


def test_registering_what_is_hidden_makes_it_pass() -> None:
    training = lab("adam")
    noise = torch.Generator().manual_seed(1)

    def train_fn(batch: Batch) -> Tensor:
        return training.train_step((batch[0] + torch.randn(batch[0].shape, generator=noise), batch[1]))

    own = noise.get_state()
    assert not checked(training, train_fn).ok
    noise.set_state(own)
    assert checked(training, train_fn, registered={"noise": noise}).ok
    assert torch.equal(noise.get_state(), own)


def test_an_attribute_of_a_module_that_changes_the_loss_is_named() -> None:
    class Growing(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) * self.calls

    model = nn.Sequential(Growing(6, 3))
    training = Lab(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    model(batches(1)[0][0])
    result = checked(training)
    assert result.first_difference == "loss"
    assert "model.0.calls (int)" in result.suspects


def test_random_numbers_that_are_drawn_only_sometimes_are_told_from_a_loss() -> None:
    training = lab("adam", dropout=0.0)
    count = itertools.count()

    def train_fn(batch: Batch) -> Tensor:
        if next(count) == 6:
            torch.rand(1)
        return training.train_step(batch)

    result = checked(training, train_fn)
    assert result.first_difference.startswith("rng torch")
    assert "In step 2 of 5" in result.detail


def test_a_batch_that_is_written_into_is_named_and_put_back() -> None:
    training, data = lab("adam"), batches(6)
    before = [x.clone() for x, _ in data]

    def train_fn(batch: Batch) -> Tensor:
        batch[0].add_(1.0)
        return training.train_step(batch)

    result = checked(training, train_fn, data=data)
    assert result.first_difference == "batch [0][0][0]"
    assert "x = x.clone()" in result.detail
    assert all(torch.equal(x, was) for (x, _), was in zip(data, before, strict=True))


def test_a_registered_thing_that_does_not_come_back_is_named() -> None:
    class Forgetful:
        def __init__(self) -> None:
            self.seen = 0

        def state_dict(self) -> dict[str, int]:
            return {"seen": self.seen}

        def load_state_dict(self, state: dict[str, int]) -> None:
            pass

    training, thing = lab("adam"), Forgetful()

    def train_fn(batch: Batch) -> Tensor:
        thing.seen += 1
        return training.train_step(batch)

    result = checked(training, train_fn, registered={"sampler": thing})
    assert result.first_difference == "registered.sampler.seen"
    assert "load_state_dict" in result.detail


def test_an_optimizer_with_a_hidden_state_is_named() -> None:
    """A global counter decides how far it goes: the loss of that step is still the same."""
    steps = itertools.count()

    class Odd(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.param_groups[0]["lr"] = 0.1 / (1 + next(steps))
            super().step(closure)

    training = lab("adam")
    training.optimizers = [Odd(training.model.parameters(), lr=0.1)]
    result = checked(training)
    assert result.first_difference == "parameter first.weight"
    assert "optimizer.step()" in result.detail


def test_what_train_fn_raises_passes_through_and_all_is_as_before() -> None:
    training = lab("adam")
    before = picture(training)

    def train_fn(batch: Batch) -> Tensor:
        if training.calls == 2:
            message = "out of data"
            raise RuntimeError(message)
        return training.train_step(batch)

    with pytest.raises(RuntimeError, match="out of data"):
        checked(training, train_fn)
    assert picture(training) == before


def test_wrong_arguments_are_told_before_anything_runs() -> None:
    training = lab("adam")
    with pytest.raises(UsageError, match="steps: expected a whole number of at least 1, got 0"):
        checked(training, steps=0)
    with pytest.raises(UsageError, match="model: expected"):
        selftest(training.train_step, optimizer=training.optimizers, data=batches(2))
    assert training.calls == 0


def test_a_loss_that_is_not_a_number_equals_itself() -> None:
    training = lab("sgd-momentum", dropout=0.0)
    assert checked(training, lambda batch: F.mse_loss(training.model(batch[0] * 1e38), batch[0][:, :3])).ok
