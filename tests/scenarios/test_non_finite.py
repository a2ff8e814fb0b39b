"""NaN and Inf under the shipped default policy, each from its beginning to its end."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from supervisor.recording.metrics import read_curves
from tests.entry.trainings import Lab, batches, poisoned, values
from tests.scenarios.faults import finite, normed, ruin_moments, ruin_weights, rungs, trained


def test_a_nan_batch_is_left_out_as_if_it_had_never_been_there() -> None:
    """Weights, moments and BatchNorm's statistics equal those of a training on the other batches, bit for bit."""
    data = batches(200)
    with_it, without = normed(dropout=0.0), normed(dropout=0.0)
    report = trained(with_it, poisoned([*data[:100], data[0], *data[100:]], 100))
    without.bare([batch] for batch in data)
    assert rungs(report) == [("skip_step",)]
    assert [(v.pathology, v.status) for v in report.verdicts] == [("non_finite", "resolved")]
    assert (report.status, report.health, report.steps, report.ticks) == ("completed", "recovered", 200, 201)
    assert report.findings[0].cause == "bad batch"
    assert values(with_it, rng=False) == values(without, rng=False)


def test_data_that_are_nan_for_ever_are_skipped_then_end_in_a_stop_that_names_them() -> None:
    data = batches(300)
    training, until_then = normed(dropout=0.0), normed(dropout=0.0)
    report = trained(training, poisoned(data, *range(100, 300)))
    until_then.bare([batch] for batch in data[:100])
    assert rungs(report) == [("skip_step",)] * 20 + [("stop",)]
    assert (report.status, report.health, report.steps, report.ticks) == ("stopped", "unresolved", 100, 121)
    assert report.stop_reason.startswith("non_finite at tick 121")
    assert "bad batch" in report.stop_reason
    assert "20 steps in a row were skipped, the limit is 20" in report.decisions[-1].reason
    assert values(training, rng=False) == values(until_then, rng=False)


@pytest.mark.parametrize("ruin", [ruin_weights, ruin_moments])
def test_a_ruined_state_is_rolled_back_and_the_training_goes_on(ruin: Callable[[Lab], Callable[[], None]]) -> None:
    """A skip would not help: the next step would start from the same ruin."""
    training = normed()
    report = trained(training, batches(300), ({100}, ruin(training)))
    assert rungs(report) == [("rollback",)]
    assert "doing nothing ends non-finite" in report.decisions[0].reason
    assert [(v.pathology, v.status) for v in report.verdicts] == [("non_finite", "resolved")]
    assert (report.status, report.health) == ("completed", "recovered")
    assert finite(training)
    assert report.final_loss < 0.6


def test_a_relapse_after_a_rollback_goes_deeper_and_trains_on_more_slowly() -> None:
    """The lower rate stays, because it lives on the tick clock; the user's own float is never touched."""
    training = normed()
    report = trained(training, batches(300), ({100, 130}, ruin_weights(training)))
    assert rungs(report) == [("rollback",), ("rollback", "lower_lr")]
    first, deeper = (o.changes["state of tick"][1] for o in report.outcomes if o.remedy == "rollback")
    assert deeper < first
    assert [v.status for v in report.verdicts] == ["persisted", "resolved"]
    rates = read_curves(report.run_dir)["lr"].tolist()
    assert (rates[100], rates[-1]) == (pytest.approx(0.01), pytest.approx(0.001))
    assert training.optimizers[0].param_groups[0]["lr"] == 0.01
    assert (report.status, report.health) == ("completed", "recovered")
    assert finite(training)


def test_weights_that_are_ruined_again_and_again_end_in_a_stop_that_says_what_was_tried() -> None:
    training = normed()
    report = trained(training, batches(400), (range(100, 400, 7), ruin_weights(training)))
    assert rungs(report) == [("rollback",), ("rollback", "lower_lr"), ("rollback", "lower_lr"), ("stop",)]
    states = [o.changes["state of tick"][1] for o in report.outcomes if o.remedy == "rollback"]
    assert states == sorted(states, reverse=True)
    assert len(set(states)) == len(states)
    assert (report.status, report.health) == ("stopped", "unresolved")
    assert report.stop_reason.startswith("non_finite at tick 121 in second: non-finite parameters")
    assert "rollback + lower_lr did not end it" in report.decisions[-1].reason


def test_a_loss_that_overflows_for_ever_never_takes_a_step() -> None:
    training = normed()
    ordinary = training.train_step
    training.train_step = lambda batch: ordinary(batch) * (math.inf if training.calls > 100 else 1.0)  # type: ignore[method-assign]
    report = trained(training, batches(300))
    assert set(rungs(report)) == {("skip_step",), ("stop",)}
    assert (report.status, report.health, report.steps) == ("stopped", "unresolved", 100)
    assert "numerical overflow in the loss" in report.stop_reason
    assert all(bool(p.isfinite().all()) for p in training.model.parameters())
