"""The policies that come with the package, checked against the real detectors and remedies."""

from __future__ import annotations

import json
import re

import pytest

from supervisor.policy import Policy
from supervisor.policy.fields import BOUNDS, parameters_of
from supervisor.policy.loader import loads
from supervisor.policy.schema import json_schema
from supervisor.policy.shipped import folder, names, shipped, shipped_text
from supervisor.policy.vocabulary import REMEDY_NAMES
from supervisor.registry import DETECTORS, REMEDIES


def test_default_observe_and_reference_are_shipped_with_a_line_each() -> None:
    assert [name for name, description in shipped() if description] == ["default", "observe", "reference"]


@pytest.mark.parametrize("name", names())
def test_a_shipped_policy_is_short_names_its_schema_and_survives_yaml(name: str) -> None:
    text, policy = shipped_text(name), Policy.load(name)
    assert policy.name == name
    assert loads(policy.to_yaml()) == policy
    assert text.startswith("# yaml-language-server: $schema=policy.schema.json\n")
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize("name", names())
def test_every_number_of_a_shipped_policy_says_why(name: str) -> None:
    numbered = [line for line in shipped_text(name).splitlines() if re.search(r": [0-9]", line.partition("#")[0])]
    assert [line for line in numbered if "#" not in line] == []


@pytest.mark.parametrize("name", names())
def test_a_shipped_policy_answers_every_pathology_that_can_be_detected(name: str) -> None:
    assert set(Policy.load(name).respond) == set(DETECTORS.names())


def test_observe_sees_what_default_sees_and_only_advises() -> None:
    observe, default = Policy.load("observe"), Policy.load("default")
    assert (observe.detect, observe.verify) == (default.detect, default.verify)
    assert observe.remedies == {"advise"}


def test_reference_judges_by_the_textbooks_fixed_numbers() -> None:
    assert Policy.load("reference").detect == {
        "vanishing_gradients": {"min_norm": 1e-7},
        "exploding_gradients": {"max_norm": 100.0},
        "dead_units": {"zero_fraction": 0.2},
    }


def test_the_schema_beside_the_policies_is_fresh() -> None:
    """Otherwise: `supervise policy schema > policies/policy.schema.json`."""
    assert json.loads((folder() / "policy.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_the_sections_have_bounds_for_each_of_their_fields() -> None:
    assert all(set(bounds) == set(parameters_of(cls)) for cls, bounds in BOUNDS.items())


def test_every_parameter_has_a_description_and_a_default_that_it_accepts() -> None:
    for registry in (DETECTORS, REMEDIES):
        for name in registry.names():
            for parameter in parameters_of(registry[name]).values():
                assert parameter.description, f"{name}.{parameter.name}"
                assert parameter.accept(parameter.default) == parameter.default


def test_every_shipped_remedy_bears_a_name_of_the_contract() -> None:
    assert set(REMEDIES.names()) <= set(REMEDY_NAMES)
