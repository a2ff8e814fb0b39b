"""What the clinic says about a case is what its runs did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from supervisor.clinic.case import Case, Half
from supervisor.clinic.rows import Row
from supervisor.clinic.run import gather, plan, rows, twin_key
from supervisor.clinic.runs import Job, examine
from tests.clinic import tiny

CASES = (tiny.NAN, tiny.SLOW, tiny.HEALTHY, tiny.RAISING)
Protocol = dict[tuple[str, int], Row]


def in_development(_: str) -> Half:
    return "development"


def examined(
    cases: Sequence[Case], seeds: int = 1, *, baselines: bool = False, folder: Path = Path("records")
) -> Protocol:
    """Do all runs of `cases` in this process."""
    by_name = {case.name: case for case in cases}
    jobs = plan(cases, seeds, "default", folder.absolute(), baselines=baselines)
    done = gather(cases, ((job, examine(by_name[job.case], job)) for job in jobs), half=in_development)
    return {(row.case.name, row.seed): row for row in done}


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    """Every tiny case that keeps to its process, over two seeds."""
    return examined(CASES, seeds=2, baselines=True, folder=tmp_path_factory.mktemp("records"))


def test_every_case_and_seed_has_one_row(protocol: Protocol) -> None:
    assert set(protocol) == {(case.name, seed) for case in CASES for seed in range(2)}


def test_a_fault_seen_at_once_and_cured(protocol: Protocol) -> None:
    row = protocol["mlp/nan-batch", 0]
    assert (row.latency_ticks, row.latency, row.cause_right, row.false_alarms) == (0, 0.0, True, ())
    assert row.supervised.interventions == ("skip_step",)
    assert row.repaired("supervised")
    assert row.passes == (tiny.STEPS + 1) / tiny.STEPS
    assert (row.flaws, row.error) == ([], "")


def test_the_baselines_are_doing_nothing_and_a_guard_by_hand(protocol: Protocol) -> None:
    """One NaN batch ruins a bare training; whoever skips it needs no more."""
    row = protocol["mlp/nan-batch", 0]
    assert (row.repaired("bare"), row.repaired("clipped")) == (False, True)


def test_a_supervised_healthy_training_is_the_bare_one_bit_for_bit(protocol: Protocol) -> None:
    for seed in range(2):
        row = protocol["mlp/healthy", seed]
        assert row.runs["bare"].score == row.supervised.score
        assert (row.false_alarms, row.supervised.interventions) == ((), ())
        assert row.slowdown is not None


def test_seeds_differ_and_repeat(protocol: Protocol) -> None:
    again = examined([tiny.SLOW], seeds=2)
    scores = [protocol["mlp/slow", seed].runs["bare"].score for seed in range(2)]
    assert [again["mlp/slow", seed].runs["bare"].score for seed in range(2)] == scores
    assert scores[0] != scores[1]


def test_a_case_that_cannot_be_built_is_a_row_that_says_so(protocol: Protocol) -> None:
    row = protocol["mlp/raising", 1]
    assert "supervised: RuntimeError: cannot be built with seed 1 (tiny.py:" in row.error
    assert (row.first, row.regained("supervised"), row.to_dict()["scores"]["supervised"]) == (None, None, None)


def test_a_fault_that_does_no_harm_is_pointed_out() -> None:
    harmless = replace(tiny.NAN, name="mlp/harmless", build=tiny.classifier)
    row = examined([harmless])["mlp/harmless", 0]
    assert row.flaws == ["its fault does no harm: the bare run regains 1.00"]


def test_a_twin_that_learns_nothing_is_pointed_out() -> None:
    row = examined([replace(tiny.NAN, twin=tiny.slow)])["mlp/nan-batch", 0]
    assert row.flaws[0].startswith("its twin is no better than chance (")


def test_a_finding_before_the_onset_is_a_false_alarm_and_no_detection() -> None:
    late = replace(tiny.NAN, onset=tiny.NAN_AT + 1)
    row = examined([late])["mlp/nan-batch", 0]
    assert (row.first, [finding.tick for finding in row.false_alarms]) == (None, [tiny.NAN_AT])


def test_a_twin_that_cases_share_is_trained_once() -> None:
    twins = [job for job in plan([tiny.NAN, tiny.SLOW, tiny.DEEP], 2, "default", Path()) if job.kinds == ("twin",)]
    assert [job.seed for job in twins] == [0, 1]


def test_twins_are_the_same_where_they_are_built_from_the_same_things() -> None:
    def twin(**settings: object) -> Case:
        return replace(tiny.NAN, twin=partial(tiny.classifier, **settings))  # type: ignore[arg-type]

    assert twin_key(twin(lr=0.1)) == twin_key(twin(lr=0.1))
    assert twin_key(twin(lr=0.1)) != twin_key(twin(lr=0.2))
    assert twin_key(twin(bad=[1])) != twin_key(twin(bad=[1]))  # what cannot be compared is taken for different


def test_a_case_that_takes_its_process_with_it_costs_only_itself() -> None:
    """Through real processes; what ended is told job by job."""
    told: list[Job] = []
    cases = (tiny.DYING, tiny.HEALTHY)
    jobs = plan(cases, 1, "default", Path("records").absolute())
    found: Iterable[Row] = rows(cases, jobs, 2, told.append, tiny.perform, in_development)
    by_name = {row.case.name: row for row in found}
    assert "its process died with exit code 7" in by_name["mlp/dying"].error
    assert by_name["mlp/healthy"].error == ""
    assert set(told) == set(jobs)
