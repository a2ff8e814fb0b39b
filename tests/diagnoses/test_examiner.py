"""The detectors of a policy, run over a training tick by tick."""

from __future__ import annotations

import math

import pytest

from supervisor.diagnoses.examiner import Examiner, build_detectors
from supervisor.records import PATHOLOGIES
from supervisor.registry import DETECTORS
from tests.diagnoses.shots import shot, usual


def test_every_registered_detector_is_built_the_most_urgent_first() -> None:
    built = list(build_detectors({}))
    assert set(built) == set(DETECTORS.names())
    assert built == sorted(built, key=PATHOLOGIES.index)


def test_thresholds_are_those_of_the_policy_and_none_switches_off() -> None:
    built = build_detectors({"dead_units": {"fraction": 0.3}, "vanishing_gradients": None})
    assert built["dead_units"] == DETECTORS["dead_units"](fraction=0.3)
    assert "vanishing_gradients" not in built


def test_an_unknown_threshold_is_refused() -> None:
    with pytest.raises(TypeError, match="fractoin"):
        build_detectors({"dead_units": {"fractoin": 0.3}})


def test_a_tick_is_judged_against_what_came_before_it_and_then_becomes_past() -> None:
    examiner = Examiner(build_detectors({}))
    for now in usual(30):
        assert examiner.examine(now) == []
    assert len(examiner.past.losses) == 30
    assert [finding.pathology for finding in examiner.examine(shot(31, 9.0, 900.0))] == ["exploding_gradients"]
    assert len(examiner.past.losses) == 31


def test_an_ill_tick_teaches_no_usual_level() -> None:
    examiner = Examiner(build_detectors({}))
    for now in usual(30):
        examiner.examine(now)
    kept = len(examiner.past.loss)
    examiner.examine(shot(31, 9.0, 900.0))
    examiner.examine(shot(32, math.nan, math.nan))
    assert len(examiner.past.loss) == kept
    assert len(examiner.past.log_grad_norm) == kept


def test_samples_of_another_era_are_forgotten_before_anything_is_judged() -> None:
    """A remedy has drawn new weights: what the old ones did is no evidence against these."""
    examiner = Examiner(build_detectors({}))
    for now in usual(40):
        examiner.examine(now)
    assert examiner.past.samples
    examiner.examine(shot(41, era=1))
    assert [now.era for now in examiner.past.samples] == [1]
