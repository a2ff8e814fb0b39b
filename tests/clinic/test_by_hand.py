"""Treatments by hand do what their names say, and what cures is noted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from supervisor.clinic.by_hand import DELAY, TREATMENTS, ByHand
from supervisor.clinic.case import regained
from supervisor.clinic.curable import TWIN, Attempt, Came, jobs_for, note, read, try_out
from supervisor.clinic.plain import train
from supervisor.clinic.runs import build
from supervisor.registry import REMEDIES
from tests.clinic import tiny

OPERATED = {"reinit_weights", "swap_activation", "reinit_dead_units"}
BY_HAND = {"rollback", "lower_lr", "clip_norm", "skip_step"}


def share(treatment: str) -> float:
    """Return what a treatment regains of the deep sigmoid network's lead."""
    twin, came = try_out(tiny.DEEP, TWIN), try_out(tiny.DEEP, treatment)
    return regained(came.score, twin.chance, twin.score)


def test_every_remedy_that_is_built_is_tried() -> None:
    tried = {word for name in TREATMENTS for word in name.split()}
    changing = set(REMEDIES.names()) - {"advise", "stop"}
    assert changing & (OPERATED | BY_HAND) <= tried


def test_a_surgery_cures_where_no_learning_rate_does() -> None:
    assert share("swap_activation gelu + reinit_weights") >= 0.95
    assert max(share("lower_lr 0.1"), share("raise_lr 10")) < 0.5


def test_a_remedy_that_does_not_fit_has_no_score() -> None:
    assert math.isnan(try_out(tiny.HEALTHY, "reinit_dead_units").score)


@pytest.mark.parametrize("treatment", ["skip_step", "rollback", "rollback + clip_norm usual"])
def test_a_bad_batch_is_cured_by_whoever_skips_it(treatment: str) -> None:
    twin, came = try_out(tiny.NAN, TWIN), try_out(tiny.NAN, treatment)
    assert regained(came.score, twin.chance, twin.score) >= 0.95


def test_a_rollback_returns_to_the_state_before_the_onset_and_costs_its_ticks() -> None:
    program = build(tiny.NAN.build, 0)
    ticks, steps, _ = train(program.training, ByHand(TREATMENTS["rollback"], tiny.NAN_AT))
    assert (ticks, steps) == (tiny.STEPS + 1 + DELAY, tiny.STEPS)  # the voided tick, and the steps that were undone


def test_a_case_is_noted_when_all_its_attempts_are_done() -> None:
    place = Path("curable.json")
    jobs = [Attempt("a", TWIN), Attempt("a", "rollback"), Attempt("a", "lower_lr 0.1"), Attempt("b", TWIN)]
    came = {TWIN: Came(0.9, 0.5), "rollback": Came(0.9, 0.5), "lower_lr 0.1": Came(0.6, 0.5)}
    note([(job, came[job.treatment]) for job in jobs[:2]], jobs, lambda _: None, place)
    assert read(place) == {}
    note([(job, came[job.treatment]) for job in jobs], jobs, lambda _: None, place)
    assert read(place) == {"a": ["rollback"], "b": []}


def test_what_is_noted_is_not_tried_again() -> None:
    place = Path("curable.json")
    place.write_text('{"mlp/nan-batch": ["skip_step"]}', encoding="utf-8")
    assert {job.case for job in jobs_for([tiny.NAN, tiny.DEEP], place)} == {"mlp/deep-sigmoid"}
