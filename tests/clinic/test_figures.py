"""The arithmetic of the score table, on made rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from supervisor.clinic.case import Case
from supervisor.clinic.figures import Share, Spared, summary, treated
from supervisor.clinic.rows import Row
from supervisor.clinic.runs import Kind, Ran, Seen
from supervisor.clinic.table import baseline_table, case_line, control_table, faulty_table, remarks
from tests.clinic.tiny import classifier

SICK = Case("a/sick", "mlp", classifier, frozenset({"dead_units"}), frozenset({"large learning rate"}), 101, classifier)
WELL = Case("a/well", "mlp", classifier)


def sick(
    tick: int | None, score: float, cause: str = "large learning rate", bare: float = 0.5, trial_passes: int = 0
) -> Row:
    """A case of 1000 steps with chance 0.5 and a twin at 0.9."""
    findings = () if tick is None else (Seen("dead_units", tick, cause),)
    supervised = Ran(score, 0.5, 1000, 1100, 1000, 3.0, findings, ("lower_lr",), "recovered", trial_passes)
    runs: dict[Kind, Ran] = {
        "bare": Ran(bare, 0.5, 1000, 1000, 1000, 2.0),
        "twin": Ran(0.9, 0.5, 1000, 1000, 1000, 2.0),
    }
    return Row(SICK, "development", 0, {**runs, "supervised": supervised})


def well(*findings: Seen, interventions: tuple[str, ...] = ()) -> Row:
    ran = Ran(0.9, 0.5, 1000, 1000, 1000, 2.2, findings, interventions, "healthy")
    return Row(WELL, "held-out", 0, {"bare": Ran(0.9, 0.5, 1000, 1000, 1000, 2.0), "supervised": ran})


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 210, 0.0, 0.018), (9, 10, 0.596, 0.982), (44, 44, 0.920, 1.0), (1, 2, 0.095, 0.905), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_those_of_the_books(hits: int, of: int, low: float, high: float) -> None:
    assert Share(hits, of).interval == pytest.approx((low, high), abs=5e-4)


def test_shares_of_a_pathology_count_all_its_cases() -> None:
    rows = [sick(101, 0.9), sick(121, 0.88), sick(151, 0.7, cause="unknown"), sick(None, 0.5)]
    line, total = treated([*rows, well()], {"a/sick": ["lower_lr 0.1"]})
    assert (line.pathology, total.pathology) == ("dead_units", "all")
    assert line.detected == total.detected == Share(3, 4)
    assert line.cause == Share(2, 4)
    assert line.repaired == Share(2, 4)  # 0.88 is exactly 95 % of the lead
    assert line.of_curable == Share(2, 4)
    assert line.arms["bare"].repaired == Share(0, 4)


def test_the_cost_of_a_way_of_treatment_counts_ticks_and_trials_of_what_it_repaired() -> None:
    rows = [sick(101, 0.9, trial_passes=100), sick(101, 0.9), sick(101, 0.5, trial_passes=800)]
    (line, _) = treated(rows, {"a/sick": ["lower_lr 0.1"]})
    arm = line.arms["supervised"]
    assert (arm.repaired, arm.of_curable) == (Share(2, 3), Share(2, 3))
    assert (arm.cost_median, arm.cost_mean) == pytest.approx((1.15, 1.15))
    assert arm.cost_mean_of_all == pytest.approx((1.2 + 1.1 + 1.9) / 3)
    assert rows[0].to_dict()["cost"] == {"supervised": 1.2, "bare": 1.0}


def test_ways_of_treatment_stand_side_by_side_an_arm_under_its_function() -> None:
    row = sick(101, 0.9)
    runs = {**row.runs, "tests.benchmarks.some:at_random": Ran(0.88, 0.5, 1000, 2000), "clipped": Ran(error="it broke")}
    header, table = baseline_table(treated([replace(row, runs=runs)], {"a/sick": ["rollback"]}))
    assert header == ("repaired by", "supervised", "nothing", "at random", "clip + skip")
    assert table[0] == ("dead_units", "1/1", "0/1", "1/1", "0/1")
    assert table[-2:] == [
        ("cost, median", "x 1.10", "-", "x 2.00", "-"),
        ("cost, mean", "x 1.10", "-", "x 2.00", "-"),
    ]


def test_a_missed_fault_counts_as_an_endless_latency() -> None:
    (line, _) = treated([sick(101, 0.9), sick(111, 0.9), sick(None, 0.5)], {})
    assert line.latency[0] == pytest.approx(0.01)
    assert line.latency[1] == math.inf
    assert faulty_table([line])[1][0][2] == "1.0/-"


def test_a_case_that_nothing_cures_is_none_of_the_curable() -> None:
    (line, _) = treated([sick(101, 0.5)], {"a/sick": []})
    assert str(line.of_curable) == "-"


def test_an_early_finding_is_a_remark() -> None:
    row = sick(100, 0.9)
    assert row.first is None
    assert remarks([row])[1:] == ["a/sick, seed 0: a finding before its onset"]


def test_what_a_repair_cost_is_told_in_passes_a_step() -> None:
    assert remarks([sick(101, 0.9), sick(101, 0.5)]) == [
        "passes for each step, of the repaired: median 1.10, 90 % 1.10"
    ]


def test_controls_count_runs_not_findings() -> None:
    twice = well(Seen("plateau", 5, "unknown"), Seen("plateau", 500, "unknown"), interventions=("lower_lr", "lower_lr"))
    line = Spared.of([well(), twice])
    assert (line.alarmed, line.treated) == (Share(1, 2), Share(1, 2))
    assert line.slowdown == pytest.approx(1.1)
    assert control_table({"held-out": line})[1] == [("held-out", "1/2 9-91", "1/2 9-91", "x 1.10")]


def test_the_tables_fit_eighty_columns() -> None:
    row = sick(101, 0.9)
    arms = {f"tests.benchmarks.{name}": row.supervised for name in ("a:at_random", "b:autotrainer")}
    row = replace(row, runs={**row.runs, "clipped": row.supervised, **arms})
    lines = treated([row] * 44, {"a/sick": ["rollback"]})
    for header, rows in (faulty_table(lines), baseline_table(lines)):
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        assert sum(widths) + 2 * (len(header) - 1) <= 80


def test_a_case_is_told_in_one_line() -> None:
    expected = (
        "a/sick, seed 0 (onset 101): found dead_units at tick 111 (unknown); did lower_lr; regained 50 %, bare 0 %; "
        "time x 1.36"
    )
    assert expected == case_line(sick(111, 0.7, cause="unknown"))


def test_everything_is_plain_data_even_what_is_unknown() -> None:
    rows = [sick(None, math.nan), well()]
    facts = json.loads(json.dumps({"summary": summary(rows, {}), "rows": [r.to_dict() for r in rows]}, allow_nan=False))
    assert facts["summary"]["development"]["faulty"]["all"]["latency_median"] is None
    assert facts["summary"]["held-out"]["controls"]["alarmed"] == {"hits": 0, "of": 1, "interval": [0.0, 0.7935]}
    assert facts["rows"][0]["regained"] == {"bare": 0.0, "supervised": 0.0}
