"""Treatments by hand do what their names say, and what cures is noted."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from supervisor.clinic.by_hand import DELAY, ByHand
from supervisor.clinic.case import Case, Program, regained
from supervisor.clinic.curable import Attempts, Known, jobs_for, note, read, try_all, try_out
from supervisor.clinic.plain import train
from supervisor.clinic.pool import Failure
from supervisor.clinic.runs import build, run_plain
from supervisor.clinic.treatments import TREATMENTS
from supervisor.errors import RemedyRefused
from supervisor.registry import REMEDIES
from tests.clinic import tiny

ELSEWHERE = {"advise", "stop", "skip_batches", "clip_value", "reduce_lr_on_plateau"}
"""No treatments, and those whose work another one does by hand: a skip, a clip, a lower rate."""

PLACE = Path("curable.json")


@cache
def twin(case: Case) -> tuple[float, float]:
    assert case.twin is not None
    ran = run_plain(build(case.twin, 0))
    return ran.chance, ran.score


def share(case: Case, treatment: str) -> float:
    """Return what a treatment regains of the twin's lead."""
    return regained(try_out(case, treatment).score, *twin(case))


def test_every_remedy_that_is_built_is_tried() -> None:
    tried = {word for name in TREATMENTS for word in name.split()}
    assert set(REMEDIES.names()) - tried == ELSEWHERE


def test_a_surgery_cures_where_no_learning_rate_does() -> None:
    assert share(tiny.DEEP, "swap_activation gelu + reinit_weights") >= 0.95
    assert max(share(tiny.DEEP, "lower_lr 0.1"), share(tiny.DEEP, "raise_lr 10")) < 0.5


@pytest.mark.parametrize("treatment", [name for name in TREATMENTS if "insert_norm" in name or "add_resid" in name])
def test_surgeries_that_grow_the_model_or_run_the_batch_again_can_be_done(treatment: str) -> None:
    assert math.isfinite(try_out(tiny.DEEP, treatment).score)


def test_other_activations_and_a_norm_cure_what_sigmoids_have_drawn_together() -> None:
    assert share(tiny.DEEP, "swap_activation relu + insert_norm") >= 0.95


def test_a_rate_that_was_taken_down_too_soon_is_held_up() -> None:
    """To 1 % of it after ten steps; a multiple of ten brings back a tenth."""
    decayed = replace(tiny.SLOW, build=partial(_scheduled, after=10))
    assert share(decayed, "raise_lr hold") >= 0.95 > share(decayed, "skip_step")


def _scheduled(seed: int, after: int) -> Program:
    program = tiny.classifier(seed)
    (optimizer,) = program.training.optimizers
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-4 if step > after else 1.0)
    return replace(program, training=replace(program.training, scheduler=scheduler))


@pytest.mark.parametrize("treatment", ["reinit_dead_units", "raise_lr hold"])
def test_a_remedy_that_does_not_fit_is_refused(treatment: str) -> None:
    with pytest.raises(RemedyRefused):
        try_out(tiny.HEALTHY, treatment)


@pytest.mark.parametrize("treatment", ["skip_step", "rollback", "rollback + clip_norm usual"])
def test_a_bad_batch_is_cured_by_whoever_skips_it(treatment: str) -> None:
    assert share(tiny.NAN, treatment) >= 0.95


def test_a_rollback_returns_to_the_state_before_the_onset_and_costs_its_ticks() -> None:
    program = build(tiny.NAN.build, 0)
    ticks, steps, _ = train(program.training, ByHand(TREATMENTS["rollback"], tiny.NAN_AT))
    assert (ticks, steps) == (tiny.STEPS + 1 + DELAY, tiny.STEPS)  # the voided tick, and the steps that were undone


def test_treatments_are_tried_until_one_cures() -> None:
    both = "swap_activation relu + insert_norm"
    known = try_all(tiny.DEEP, ["raise_lr hold", "lower_lr 0.1", both, "rollback"])
    assert known == Known((both,), ("raise_lr hold", "lower_lr 0.1", both))


def test_a_cured_case_is_noted_with_its_cure_and_another_with_what_was_tried() -> None:
    told: list[str] = []
    results: list[tuple[Attempts, Known | Failure]] = [
        (Attempts("a", ("rollback", "warmup_lr")), Known(("rollback",), ("rollback",))),
        (Attempts("b", ("rollback", "warmup_lr")), Known((), ("rollback", "warmup_lr"))),
        (Attempts("c", ("rollback",)), Failure("its twin raised")),
    ]
    note(results, told.append, PLACE)
    assert (read(PLACE), told) == ({"a": ["rollback"], "b": []}, ["a", "b", "c"])
    assert '"tried"' not in PLACE.read_text(encoding="utf-8").partition('"b"')[0]


def test_a_case_that_nothing_cured_is_tried_with_what_is_new_alone() -> None:
    new = next(reversed(TREATMENTS))
    cured = Attempts(tiny.NAN.name, ("skip_step",)), Known(("skip_step",), ("skip_step",))
    lost = Attempts(tiny.DEEP.name, ()), Known((), tuple(name for name in TREATMENTS if name != new))
    note([cured, lost], place=PLACE)
    assert jobs_for([tiny.NAN, tiny.DEEP], PLACE) == [Attempts(tiny.DEEP.name, (new,))]
    note([(Attempts(tiny.DEEP.name, (new,)), Known((new,), (new,)))], place=PLACE)
    assert jobs_for([tiny.NAN, tiny.DEEP], PLACE) == []


def test_what_cures_often_is_tried_first() -> None:
    note([(Attempts("x", ()), Known(("warmup_lr",))), (Attempts("y", ()), Known(("warmup_lr",)))], place=PLACE)
    (job,) = jobs_for([tiny.SLOW], PLACE)
    assert (job.treatments[0], set(job.treatments)) == ("warmup_lr", set(TREATMENTS))
