"""One exact state, put back in place."""

from __future__ import annotations

import pytest
import torch

from supervisor.checkpoints import capture, restore
from supervisor.run import Clip, TrainingRun
from tests.checkpoints.operating import surgery
from tests.entry.optimizers import OPTIMIZERS, SCHEDULERS
from tests.entry.trainings import Batch, Lab, batches, lab, picture, run_of


def train(training: Lab, run: TrainingRun, data: list[Batch]) -> list[float]:
    """Train on `data` and return the losses of these batches."""
    begun = len(training.losses)
    for batch in data:
        run.drop_gradients()
        loss = training.train_step(batch)
        loss.backward()
        run.take_step(float(loss.detach()))
    return training.losses[begun:]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_batches_give_the_same_losses_again(optimizer: str) -> None:
    """Dropout, BatchNorm, assigned buffers, moments and the scheduler included, bit for bit."""
    training = lab(optimizer, SCHEDULERS["cosine"])
    run = run_of(training)
    train(training, run, batches(7))
    kept, before = capture(run), picture(training)
    first = train(training, run, batches(9, seed=11))
    assert picture(training) != before
    restore(run, kept)
    assert picture(training) == before
    assert run.clock.step == 7
    assert train(training, run, batches(9, seed=11)) == first


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_the_schedule_goes_back_too(schedule: str) -> None:
    training = lab("sgd-momentum", SCHEDULERS[schedule])
    run = run_of(training)
    train(training, run, batches(6))
    kept = capture(run)
    rates = []
    for _ in range(2):
        train(training, run, batches(12, seed=11))
        rates.append(picture(training))
        restore(run, kept)
    assert rates[0] == rates[1]


def test_the_state_before_the_first_step_is_one_like_any_other() -> None:
    """Moments that did not exist then are gone again."""
    training = lab("adam")
    run = run_of(training)
    kept, before = capture(run), picture(training)
    first = train(training, run, batches(5))
    restore(run, kept)
    assert picture(training) == before
    assert training.optimizers[0].state == {}
    assert train(training, run, batches(5)) == first


def test_a_state_serves_twice_and_shares_no_storage() -> None:
    training = lab("adam")
    run = run_of(training)
    train(training, run, batches(3))
    kept, before = capture(run), picture(training)
    for _ in range(2):
        train(training, run, batches(5, seed=11))
        restore(run, kept)
        assert picture(training) == before


def test_the_users_references_stay_valid() -> None:
    """Parameters keep identity and storage, moments their storage, and views of weights see the values return."""
    training = lab("adam")
    run = run_of(training)
    train(training, run, batches(3))
    weight = training.model.get_parameter("first.weight")
    view, moment = weight.data[0], training.optimizers[0].state[weight]["exp_avg"]
    values, moments = view.clone(), moment.clone()
    kept = capture(run)
    train(training, run, batches(3, seed=11))
    restore(run, kept)
    assert training.model.get_parameter("first.weight") is weight
    assert torch.equal(view, values)
    assert training.optimizers[0].state[weight]["exp_avg"] is moment
    assert torch.equal(moment, moments)


def test_flags_go_back_and_gradients_are_gone() -> None:
    training = lab("adam")
    run = run_of(training)
    kept = capture(run)
    training.train_step(batches(1)[0]).backward()
    training.model.eval()
    training.model.get_parameter("head.bias").requires_grad = False
    restore(run, kept)
    assert all(module.training for module in training.model.modules())
    assert all(p.requires_grad and p.grad is None for p in training.model.parameters())


def test_what_remedies_set_lives_on_the_tick_clock() -> None:
    training = lab("adam")
    run = run_of(training)
    kept = capture(run)
    run.lr_multiplier, run.clip, run.clock.tick = 0.1, Clip("norm", 1.0, 9), 5
    restore(run, kept)
    assert (run.lr_multiplier, run.clip, run.clock.tick) == (0.1, Clip("norm", 1.0, 9), 5)


def test_surgeries_since_are_undone_last_in_first_out_before_anything_is_copied() -> None:
    training = lab("adam")
    run = run_of(training)
    undone: list[str] = []
    run.operate(surgery("kept", lambda: undone.append("kept")))
    kept = capture(run)
    run.operate(surgery("one", lambda: undone.append("one")))
    run.operate(surgery("two", lambda: undone.append("two")))
    restore(run, kept)
    assert undone == ["two", "one"]
    assert [done.change["kind"] for done in run.surgeries] == ["kept"]


def test_surgeries_undone_since_are_done_again_before_anything_is_copied() -> None:
    run = run_of(lab("adam"))
    told: list[str] = []
    run.operate(surgery("one", lambda: told.append("undone"), lambda: told.append("redone")))
    kept = capture(run)
    run.undo_surgeries(())
    restore(run, kept)
    assert told == ["undone", "redone"]
    assert run.surgeries == list(kept.surgeries)
