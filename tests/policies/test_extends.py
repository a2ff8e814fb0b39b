"""What a policy inherits, and what it replaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.errors import PolicyError
from supervisor.policy import Limits, Policy
from supervisor.policy.loader import load
from supervisor.policy.model import Turn
from supervisor.policy.vocabulary import Vocabulary

BASE = """
name: base
description: of the base
detect:
  dead_units: {fraction: 0.5, window: 100}
  exploding_gradients: {max_norm: 7}
respond:
  dead_units: [lower_lr, stop]
  exploding_gradients: [clip_norm]
verify: {probation: 30}
limits: {cooldown: 5, interventions: 3}
forbid: [insert_norm]
"""
CHILD = """
name: child
extends: ../base.yaml
detect:
  dead_units: {window: 60}
  exploding_gradients: null
respond:
  dead_units: [stop]
limits: {interventions: 9}
forbid: [clip_norm]
"""


@pytest.fixture
def child(vocabulary: Vocabulary) -> Policy:
    Path("inner").mkdir()
    Path("base.yaml").write_text(BASE, encoding="utf-8")
    Path("inner/child.yaml").write_text(CHILD, encoding="utf-8")
    return load("inner/child.yaml", vocabulary)


def test_thresholds_and_limits_are_inherited_key_by_key(child: Policy) -> None:
    assert child.detect["dead_units"] == {"fraction": 0.5, "window": 60}
    assert child.limits == Limits(interventions=9, cooldown=5)
    assert child.verify.probation == 30


def test_a_ladder_is_replaced_as_a_whole_and_the_others_are_inherited(child: Policy) -> None:
    assert [str(rung) for rung in child.respond["dead_units"]] == ["stop"]
    assert [str(rung) for rung in child.respond["exploding_gradients"]] == ["clip_norm"]


def test_what_is_forbidden_stays_forbidden(child: Policy) -> None:
    assert child.forbid == {"insert_norm", "clip_norm"}


def test_null_switches_a_detector_off_and_a_grandchild_may_switch_it_on_again(
    child: Policy, vocabulary: Vocabulary,
) -> None:  # fmt: skip
    assert child.detect["exploding_gradients"] is None
    text = "name: grandchild\nextends: inner/child.yaml\ndetect: {exploding_gradients: {}}\n"
    Path("grandchild.yaml").write_text(text, encoding="utf-8")
    assert load("grandchild.yaml", vocabulary).detect["exploding_gradients"] == {}


def test_name_and_description_are_a_files_own(child: Policy) -> None:
    assert (child.name, child.description) == ("child", "")


def test_a_path_is_shown_as_the_user_gave_it(child: Policy, vocabulary: Vocabulary) -> None:
    for given in ("inner/child.yaml", "./inner/child.yaml", str(Path("inner/child.yaml").resolve())):
        Path("inner/child.yaml").write_text("name: child\nrespnd: {}\n", encoding="utf-8")
        with pytest.raises(PolicyError) as caught:
            load(given, vocabulary)
        assert str(caught.value) == f"{given}:2:1: respnd: unknown key 'respnd'. Did you mean 'respond'?"


MORE = """
name: more
extends: inner/child.yaml
+respond:
  dead_units: [clip_norm, lower_lr: {factor: [0.5, 0.2]}]
  non_finite: [stop]
"""


def test_added_rungs_stand_before_the_inherited_ones_generation_by_generation(
    child: Policy, vocabulary: Vocabulary,
) -> None:  # fmt: skip
    Path("more.yaml").write_text(MORE, encoding="utf-8")
    more = load("more.yaml", vocabulary)
    assert [str(rung) for rung in more.respond["dead_units"]] == ["clip_norm", "lower_lr", "lower_lr", "stop"]
    assert [str(rung) for rung in more.respond["non_finite"]] == ["stop"]
    assert more.respond["exploding_gradients"] == child.respond["exploding_gradients"]
    text = "name: last\nextends: more.yaml\n+respond: {dead_units: [swap_activation]}\n"
    Path("last.yaml").write_text(text, encoding="utf-8")
    assert load("last.yaml", vocabulary).respond["dead_units"][1:] == more.respond["dead_units"]


def test_a_policy_with_changes_is_what_a_file_that_extends_it_would_be() -> None:
    default = Policy.load("default")
    changed = default.with_(
        verify={"trials": False},
        forbid={"insert_norm"},
        detect={"dead_units": None},
        **{"+respond": {"plateau": ["stop"]}},
    )
    text = (
        "name: default\nextends: default\nverify: {trials: false}\nforbid: [insert_norm]\n"
        "detect: {dead_units: null}\n+respond: {plateau: [stop]}\n"
    )
    Path("file.yaml").write_text(text, encoding="utf-8")
    assert changed == replace(Policy.load("file.yaml"), description=default.description)
    assert default == Policy.load("default")
    assert (default.with_(), default.with_().hash) == (default, default.hash)
    assert changed.hash != default.hash


def test_changes_are_checked_as_a_file_is_and_all_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.load("default").with_(verify={"trails": False}, forbid=["inser_norm"], extends="rnn")
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "extends: a loaded policy extends nothing more: load the other one, and change that",
        "verify.trails: unknown key 'trails'. Did you mean 'trials'?",
        "forbid[0]: unknown remedy 'inser_norm'. Did you mean 'insert_norm'?",
    ]


def test_what_earlier_runs_taught_of_a_ladder_goes_with_the_ladder() -> None:
    turns = {"unknown": (Turn(1), Turn(0))}
    learned = replace(Policy.load("default"), learned={"plateau": turns, "saturation": turns})
    changed = learned.with_(respond={"plateau": ["advise"]})
    assert changed.learned == {"saturation": turns}
