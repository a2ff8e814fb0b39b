"""A rung that changes the training must first beat doing nothing, and a trial leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from supervisor import Report, in_trial
from supervisor.records import Decision
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun
from tests.entry.optimizers import OPTIMIZERS, SCHEDULERS
from tests.entry.trainings import Batch, Lab, batches, journal, lab, values
from tests.entry.words import fail, illness, policy, refuse, remedy, ruin

TRIALS = {"probation": 30, "trials": True, "trial_budget": 1.0}
LATE = 20  # the tick of the one finding


def trying(training: Lab, *ladder: Any, count: int = 60, verify: dict[str, Any] | None = None, **more: Any) -> Report:
    with illness("odd", lambda now: now.tick == LATE):
        rules = policy({"odd": list(ladder)}, verify=verify or TRIALS)
        return training.supervised(batches(count), policy=rules, **more)


def better(run: TrainingRun, _: Decision) -> Effect:
    """Halve what the last layer says: a training that was made overconfident gains by it."""
    weight = run.parameters[-2]
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(0.05)

    def undo() -> None:
        with torch.no_grad():
            weight.copy_(kept)

    return Effect({"weight": (1, 0.05)}, undo)


def overconfident() -> Lab:
    training = lab(dropout=0.0)
    with torch.no_grad():
        training.model.head.weight.mul_(60.0)  # type: ignore[union-attr, operator]
    for group in training.optimizers[0].param_groups:
        group["lr"] = 1e-6
    return training


def ended() -> list[dict[str, Any]]:
    return [line for line in journal("trial") if line["phase"] == "ended"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_trial_that_nothing_wins_leaves_not_one_bit_changed(optimizer: str) -> None:
    """Weights, moments, BatchNorm, dropout's random numbers, scheduler: as if nobody had tried anything."""
    untouched = lab(optimizer, SCHEDULERS["cosine"])
    untouched.supervised(batches(60), policy=policy({}), run_dir="untouched")
    left = values(untouched)
    tried = lab(optimizer, SCHEDULERS["cosine"])
    with remedy("ruin", ruin):
        report = trying(tried, "ruin")
    assert [line["winner"] for line in ended()] == [None]
    assert report.interventions == []
    assert values(tried) == left
    assert report.final_loss == untouched.losses[-1]


def test_the_winner_of_a_trial_is_applied_and_its_reason_says_by_what_it_won() -> None:
    with remedy("ruin", ruin), remedy("better", better):
        report = trying(overconfident(), "ruin", "better")
    assert [(d.remedy, d.tick, d.rung) for d in report.interventions] == [("better", LATE, 1)]
    assert "of doing nothing" in report.interventions[0].reason
    (trial,) = ended()
    assert [(arm["name"], arm["result"]) for arm in trial["arms"]] == [
        ("doing nothing", "control"), ("ruin", "lost"), ("better", "won"),
    ]  # fmt: skip


def test_a_trial_is_in_the_journal_before_anything_is_tried() -> None:
    seen: list[list[str]] = []

    def look(*_: object) -> None:
        seen.append([line["phase"] for line in journal("trial")])

    with remedy("look", look):
        trying(lab(), "look")
    assert seen[0] == ["began"]


def test_trial_passes_are_no_ticks_and_reach_no_record() -> None:
    training = lab()
    with remedy("ruin", ruin):
        report = trying(training, "ruin")
    (trial,) = ended()
    assert (report.ticks, report.steps) == (60, 60)
    assert training.calls == 60 + trial["passes"]
    assert report.trial_passes == trial["passes"]


def test_the_user_s_code_can_tell_a_trial_from_the_training() -> None:
    told: list[bool] = []

    class Asking(Lab):
        def train_step(self, batch: Batch) -> Tensor:
            told.append(in_trial())
            return super().train_step(batch)

    training = lab()
    with remedy("ruin", ruin):
        trying(Asking(training.model, training.optimizers), "ruin")
    assert told.count(False) == 60
    assert any(told)
    assert not in_trial()


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_all_trials_together_cost_no_more_than_the_budget(share: float) -> None:
    with illness("odd", lambda now: now.tick % 7 == 0), remedy("ruin", ruin):
        rules = policy({"odd": ["ruin", "advise"]}, verify={**TRIALS, "trial_budget": share}, limits={"cooldown": 1})
        report = lab().supervised(batches(200), policy=rules)
    assert 0 < report.trial_passes <= share * 200


def test_without_a_budget_for_a_trial_a_rung_is_applied_and_its_probation_tells() -> None:
    with remedy("ruin", ruin):
        report = trying(lab(), "ruin", verify={**TRIALS, "trial_budget": 0.01})
    assert journal("trial") == []
    assert [d.remedy for d in report.interventions] == ["ruin"]


def test_where_the_policy_wants_no_trials_there_are_none() -> None:
    with remedy("ruin", ruin):
        trying(lab(), "ruin", verify={"trials": False})
    assert journal("trial") == []


def test_a_train_step_with_side_effects_switches_trials_off_and_the_journal_says_so() -> None:
    class Counting(Lab):
        def train_step(self, batch: Batch) -> Tensor:
            self.calls += 1
            return F.cross_entropy(self.model(batch[0]), batch[1]) * (1.0 + 0.001 * self.calls)

    training = lab()
    with remedy("better", better):
        report = trying(Counting(training.model, training.optimizers), "better")
    assert ended() == []
    assert any("side effects" in note for note in report.notes)
    assert [d.remedy for d in report.interventions] == ["better"]


def test_a_rung_that_is_refused_leaves_its_place_to_the_next() -> None:
    with remedy("refuse", refuse), remedy("better", better):
        report = trying(overconfident(), "refuse", "better")
    (trial,) = ended()
    assert [(arm["name"], arm["result"]) for arm in trial["arms"][1:]] == [("better", "won"), ("refuse", "refused")]
    assert [d.remedy for d in report.interventions] == ["better"]


def test_a_remedy_that_breaks_in_a_trial_costs_nothing() -> None:
    with remedy("fail", fail), remedy("better", better):
        report = trying(overconfident(), "fail", "better")
    (trial,) = ended()
    assert [(arm["name"], arm["result"]) for arm in trial["arms"][1:]] == [("better", "won"), ("fail", "refused")]
    assert (report.status, [d.remedy for d in report.interventions]) == ("completed", ["better"])


def test_a_batch_that_can_be_used_only_once_switches_trials_off() -> None:
    class Emptying(Lab):
        def train_step(self, batch: Batch) -> Tensor:
            held: list[Any] = batch  # type: ignore[assignment]
            return super().train_step((held.pop(0), held.pop(0)))

    training = lab()
    with illness("odd", lambda now: now.tick == LATE), remedy("better", better):
        rules = policy({"odd": ["better"]}, verify=TRIALS)
        data = [list(batch) for batch in batches(60)]
        report = Emptying(training.model, training.optimizers).supervised(data, policy=rules)  # type: ignore[arg-type]
    assert (report.status, report.ticks) == ("completed", 60)
    assert any("cannot be run again" in note for note in report.notes)


def test_user_code_that_cannot_be_run_again_switches_trials_off() -> None:
    class Fragile(Lab):
        def train_step(self, batch: Batch) -> Tensor:
            if in_trial() and self.calls > LATE + 2:
                message = "only once a batch"
                raise RuntimeError(message)
            return super().train_step(batch)

    training = lab()
    with remedy("better", better):
        report = trying(Fragile(training.model, training.optimizers), "better")
    assert report.status == "completed"
    assert any("only once a batch" in note for note in report.notes)
    assert ended() == []


def test_reflexes_and_a_stop_need_no_trial() -> None:
    report = trying(lab(), {"clip_norm": {"max_norm": 0.001}})
    assert [d.remedy for d in report.interventions][:1] == ["clip_norm"]
    assert journal("trial") == []


def test_what_lost_two_trials_is_not_tried_again() -> None:
    with illness("odd", lambda now: now.tick >= LATE), remedy("ruin", ruin):
        rules = policy({"odd": ["ruin", "advise"]}, verify={**TRIALS, "probation": 5}, limits={"cooldown": 1})
        report = lab().supervised(batches(120), policy=rules)
    assert [line["winner"] for line in ended()] == [None, None]
    assert [d.remedy for d in report.decisions] == ["advise"]


def test_a_user_s_quick_score_decides_in_place_of_the_loss() -> None:
    """By the loss on training batches `better` would win; by the score, which it makes worse, it does not."""
    training = overconfident()

    def score() -> float:
        return float(-training.model.head.weight.detach().norm())  # type: ignore[union-attr, operator]

    with remedy("better", better):
        report = trying(training, "better", evaluate=score, evaluate_every=5)
    assert report.interventions == []
    assert ended()[0]["arms"][0]["score"] < 0
    assert len(report.evaluations) == 12
