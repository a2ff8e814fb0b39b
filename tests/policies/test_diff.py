"""What one policy does otherwise than another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from supervisor.cli import main
from supervisor.policy import Policy
from supervisor.policy.compare import Difference, changed_rungs, differences
from supervisor.policy.shipped import names

DEFAULT = Policy.load("default")


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["policy", *args])


@pytest.mark.parametrize("name", names())
def test_a_policy_does_the_same_as_itself_read_back_from_its_yaml(name: str) -> None:
    policy = Policy.load(name)
    assert differences(policy, Policy.load(name)) == []


def test_each_key_that_differs_is_named_with_both_values() -> None:
    other = DEFAULT.with_(
        name="other",
        context={"frozen": ["base"]},
        detect={"dead_units": {"window": 90}, "saturation": None},
        verify={"probation": 20},
        order="learned",
        forbid=["insert_norm"],
    )
    assert differences(DEFAULT, other) == [
        Difference("context.frozen", [], ["base"]),
        Difference("detect.dead_units.window", 60, 90),
        Difference("detect.saturation", "on", "off"),
        Difference("order", "policy", "learned"),
        Difference("verify.probation", 50, 20),
        Difference("forbid", [], ["insert_norm"]),
    ]


def test_what_a_context_masks_or_loosens_is_a_difference_too() -> None:
    keys = {one.key for one in differences(DEFAULT, DEFAULT.within("gan"))}
    assert {"context.kind", "detect.plateau", "detect.exploding_gradients.ratio"} <= keys


def test_a_value_that_is_stated_at_its_default_is_no_difference() -> None:
    stated = {"detect": {"dead_units": {"window": 60}}, "respond": {"dead_units": [{"lower_lr": {"factor": 0.1}}]}}
    left = {"respond": {"dead_units": ["lower_lr"]}}
    assert differences(DEFAULT.with_(**left), DEFAULT.with_(**stated)) == []


def test_ladders_are_compared_rung_by_rung() -> None:
    one = DEFAULT.with_(respond={"dead_units": ["rollback", {"lower_lr": {"factor": 0.3}}, "advise"]})
    other = DEFAULT.with_(respond={"dead_units": [{"lower_lr": {"factor": 0.3}}, "reinit_dead_units", "advise"]})
    assert changed_rungs(one, other, "dead_units") == [
        ("-", "rollback"),
        (" ", {"lower_lr": {"factor": 0.3}}),
        ("+", "reinit_dead_units"),
        (" ", "advise"),
    ]


def test_policy_diff_tells_what_differs_and_nothing_where_nothing_does() -> None:
    Path("mine.yaml").write_text("name: mine\nextends: default\nlimits: {cooldown: 10}\n", encoding="utf-8")
    result = run("diff", "default", "mine.yaml")
    assert (result.exit_code, result.output.split()) == (
        0,
        ["key", "default", "mine.yaml", "limits.cooldown", "25", "10"],
    )
    assert run("diff", "default", "default").output == "default and default do the same\n"
    facts = json.loads(run("diff", "default", "mine.yaml", "--json").output)
    assert facts == [{"key": "limits.cooldown", "a": 25, "b": 10}]
    assert "+ advise" not in run("diff", "default", "reference").output
