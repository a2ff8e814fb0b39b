"""What a policy does, told so that a person can trust it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from supervisor.cli import main
from supervisor.policy import Policy
from supervisor.policy.explain import Answer, explain
from supervisor.policy.shipped import names
from supervisor.policy.vocabulary import Vocabulary
from supervisor.records import PATHOLOGIES
from supervisor.registry import DETECTORS

MINE = {
    "context": {"kind": "gan"},
    "detect": {"dead_units": {"fraction": 0.5}, "saturation": None},
    "respond": {
        "dead_units": [
            {"swap_activation": {"to": "leaky_relu"}},
            [
                {"reinit_dead_units": {"budget": 2, "where": "encoder.*", "after_step": 10}},
                {"lower_lr": {"factor": 0.3}},
            ],
            {"clip_norm": {"cause": ["bad batch", "bad target"], "until_step": 90, "min_severity": 0.5}},
        ],
        "non_finite": ["skip_step", "stop"],
    },
    "forbid": ["swap_activation"],
    "verify": {"probation": 33, "trial_budget": 0.02},
}


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["policy", *args])


def answer(policy: Policy, pathology: str) -> Answer:
    return next(one for one in explain(policy).answers if one.pathology == pathology)


@pytest.mark.parametrize("name", names())
def test_every_shipped_policy_explains_each_pathology_and_each_rung_in_plain_data(name: str) -> None:
    policy = Policy.load(name)
    told = explain(policy)
    assert [one.pathology for one in told.answers] == [name for name in PATHOLOGIES if name in DETECTORS]
    assert {one.pathology: len(one.ladder) for one in told.answers} == {
        pathology: len(ladder) for pathology, ladder in policy.respond.items()
    }
    assert {remedy.name for remedy in told.remedies} == policy.remedies
    assert json.loads(json.dumps(told.to_dict()))["hash"] == policy.hash


def test_a_rung_is_told_with_its_parameters_conditions_budget_and_trial() -> None:
    _, pair, clip = answer(Policy.from_dict(MINE), "dead_units").ladder
    assert (pair.rung, pair.does, pair.times, pair.trial) == (2, "reinit_dead_units + lower_lr(factor=0.3)", 2, True)
    assert pair.when == "in encoder.*; from step 10 on"
    assert (clip.when, clip.trial) == ("cause: bad batch or bad target; up to step 90; severity at least 0.5", False)


def test_a_rung_that_names_a_forbidden_remedy_is_told_to_be_never_taken() -> None:
    ladder = answer(Policy.from_dict(MINE), "dead_units").ladder
    assert [step.never for step in ladder] == ["swap_activation is forbidden", "", ""]


def test_thresholds_in_force_are_told_and_those_that_are_the_policys_own_are_marked() -> None:
    told = answer(Policy.from_dict(MINE), "dead_units")
    assert {one.name: one.value for one in told.thresholds if one.stated} == {"fraction": 0.5}
    assert next(one for one in told.thresholds if one.name == "window").value == 60
    assert all(one.meaning for one in told.thresholds)


def test_what_is_not_looked_for_is_told_with_the_reason() -> None:
    policy = Policy.from_dict(MINE)
    assert answer(policy, "saturation").off == "the policy switches it off"
    assert answer(policy, "plateau").off == "in context gan where the two are in balance, both losses stand"
    assert {one.name: one.value for one in answer(policy, "exploding_gradients").thresholds if one.stated} == {
        "ratio": 100
    }


def test_where_a_ladder_ends_without_stop_or_advice_the_advice_behind_it_is_told() -> None:
    policy = Policy.from_dict(MINE)
    assert [answer(policy, name).end for name in ("dead_units", "non_finite")] == ["advise", ""]
    assert answer(policy, "plateau").end == "it is recorded, and answered with nothing"


def test_the_rules_for_all_ladders_name_the_policys_own_numbers() -> None:
    rules = " ".join(explain(Policy.from_dict(MINE)).rules)
    for figure in ("after 33 ticks", "2 % of the run's passes", "At most 20 rungs", "20 in a row stop"):
        assert figure in rules
    assert "No trials" in " ".join(explain(Policy.from_dict(MINE).with_(verify={"trials": False})).rules)


def test_an_outsiders_detector_is_explained_like_the_shipped_ones(vocabulary: Vocabulary) -> None:
    policy = Policy("bare")
    told = [one.pathology for one in explain(policy, vocabulary).answers]
    assert told == sorted(vocabulary.detectors.names(), key=PATHOLOGIES.index)


def test_policy_explain_tells_each_ladder_with_its_trials_and_bounds() -> None:
    told = run("explain", "default").output
    assert all(word in told for word in ("exploding_gradients", "rollback + lower_lr(factor=0.1)", "first", "15 %"))
    facts = json.loads(run("explain", "gan", "--json").output)
    off = {one["pathology"] for one in facts["answers"] if one["off"]}
    assert off == {"unstable_training", "plateau", "vanishing_gradients"}
