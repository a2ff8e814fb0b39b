"""The policies that come with the package, checked against the real detectors and remedies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from supervisor.clinic.runs import Job, perform
from supervisor.policy import Policy
from supervisor.policy.fields import BOUNDS, parameters_of
from supervisor.policy.loader import loads
from supervisor.policy.schema import json_schema
from supervisor.policy.shipped import folder, names, shipped, shipped_text
from supervisor.policy.vocabulary import REMEDY_NAMES
from supervisor.registry import DETECTORS, REMEDIES

SURGERY = {"swap_activation", "insert_norm", "add_residual"}
RENEWAL = {"reinit_weights", "reinit_dead_units", "rescale_weights"}
EXERCISED = {  # a case of the clinic in which the policy acts, and one in which it stays quiet
    "default": ("mlp/sigmoid-12-sgd", "mlp/wide-relu-sgd"),
    "cautious": ("mlp/nan-in-batch-150", "mlp/wide-relu-sgd"),
    "cnn": ("cnn/functional-sigmoid-8", "cnn/biases-before-batchnorm"),
    "finetune": ("autoencoder/batch-x1000-at-400", "mlp/fine-tuned"),
    "gan": ("residual/nan-parameter-at-250", "other/two-players"),
    "large-scale": ("transformer/nan-every-fifth-batch-from-200", "transformer/pre-norm-dropout-free"),
    "observe": ("mlp/sigmoid-12-sgd", "mlp/norm-gelu-8-layers"),
    "reference": ("mlp/sigmoid-12-sgd", "mlp/norm-gelu-8-layers"),
    "rl": ("mlp/biases-to-minus-20-at-400", "other/policy-gradient"),
    "rnn": ("rnn/long-sums-gain-2.5-adam", "rnn/64-single-pixels"),
    "transformer": ("transformer/rate-x100-at-250", "transformer/warm-up"),
}
NAMES = list(EXERCISED)


def test_every_shipped_policy_has_a_line_that_says_what_it_is_for() -> None:
    assert [name for name, description in shipped() if description] == NAMES


def test_cautious_changes_neither_the_model_nor_its_course_for_good() -> None:
    assert Policy.load("cautious").remedies == {"skip_step", "clip_norm", "rollback", "stop", "advise"}


def test_large_scale_reaches_no_surgery_no_new_weights_and_no_trial() -> None:
    policy = Policy.load("large-scale")
    assert not policy.remedies & (SURGERY | RENEWAL)
    assert policy.forbid >= SURGERY | RENEWAL  # also where a file that extends it names one
    assert not policy.verify.trials


@pytest.mark.parametrize("kind", ["finetune", "gan", "rl"])
def test_a_policy_of_a_kind_declares_its_context(kind: str) -> None:
    assert Policy.load(kind).context.kind == kind


def test_finetune_draws_nothing_anew_and_builds_nothing_in() -> None:
    assert Policy.load("finetune").forbid >= SURGERY | RENEWAL


def test_transformer_keeps_the_architecture() -> None:
    assert not Policy.load("transformer").remedies & SURGERY


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_policy_acts_on_what_it_is_for_and_leaves_its_healthy_kin_alone(name: str, tmp_path: Path) -> None:
    ill, well = (
        perform(Job(case, 0, ("supervised",), name, str(tmp_path / str(index))))["supervised"]
        for index, case in enumerate(EXERCISED[name])
    )
    assert (well.error, well.health, well.interventions) == ("", "healthy", ())
    assert ill.error == ""
    assert ill.findings
    assert bool(ill.interventions) == (name != "observe")
    assert set(ill.interventions) <= Policy.load(name).remedies


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
