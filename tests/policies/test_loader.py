"""From text or mapping to a policy, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.errors import PolicyError
from supervisor.policy import Limits, Observe, Policy, Rung, Treatment, Verify, When
from supervisor.policy.loader import from_dict, load, loads, to_dict, to_yaml
from supervisor.policy.vocabulary import Vocabulary

FULL = """
name: full
description: "1e-6"                # a word that looks like a number
observe: {activations_every: 5}
detect:
  dead_units: {fraction: 1, window: 50}
  exploding_gradients: null
respond:
  dead_units:
    - lower_lr: {factor: 1e-6, budget: 3}
    - [swap_activation: {to: leaky_relu}, lower_lr: {budget: 2}]
    - stop
  exploding_gradients: []
order: policy
verify: {probation: 30, trials: false}
limits:
forbid: [insert_norm, clip_norm]
"""


def problems_of(build: Callable[[], Policy]) -> tuple[str, ...]:
    """Return the problems of a policy that cannot be built, () for one that can; any other error is a failure."""
    try:
        policy = build()
    except PolicyError as error:
        assert error.problems  # noqa: PT017 - what is raised is one of two good answers
        return error.problems
    assert isinstance(policy, Policy)
    return ()


def test_a_full_file_becomes_the_policy_it_states(vocabulary: Vocabulary) -> None:
    assert loads(FULL, vocabulary=vocabulary) == Policy(
        name="full",
        description="1e-6",
        observe=Observe(activations_every=5),
        detect={"dead_units": {"fraction": 1.0, "window": 50}, "exploding_gradients": None},
        respond={
            "dead_units": (
                Rung((Treatment("lower_lr", {"factor": 1e-6}),), budget=3),
                Rung((Treatment("swap_activation", {"to": "leaky_relu"}), Treatment("lower_lr", {})), budget=2),
                Rung((Treatment("stop"),)),
            ),
            "exploding_gradients": (),
        },
        verify=Verify(probation=30, trials=False),
        limits=Limits(),
        forbid=frozenset({"insert_norm", "clip_norm"}),
    )


CONDITIONS = """
name: conditions
respond:
  dead_units:
    - lower_lr: {factor: [0.3, 0.1], budget: 2, cause: large learning rate, after_step: 10, min_severity: 0.5}
    - [reinit_dead_units: {where: "body.*", until_step: 900, cause: [large learning rate, bad batch]}, lower_lr]
"""


def test_conditions_go_for_the_whole_rung_and_several_values_are_several_rungs() -> None:
    policy = loads(CONDITIONS)
    when = When(("large learning rate",), after_step=10, min_severity=0.5)
    assert policy.respond["dead_units"] == (
        Rung((Treatment("lower_lr", {"factor": 0.3}),), 2, when),
        Rung((Treatment("lower_lr", {"factor": 0.1}),), 2, when),
        Rung(
            (Treatment("reinit_dead_units"), Treatment("lower_lr")),
            when=When(("large learning rate", "bad batch"), "body.*", until_step=900),
        ),
    )
    assert loads(to_yaml(policy)) == policy


def test_two_lists_of_values_in_one_rung_are_refused() -> None:
    text = "name: two\nrespond:\n  dead_units:\n    - [lower_lr: {factor: [0.3, 0.1]}, raise_lr: {factor: [2, 3]}]"
    assert problems_of(lambda: loads(text)) == (
        "policy:4:7: respond.dead_units[0]: several values may be given for one parameter of a rung, not for two",
    )


def test_a_policy_survives_yaml_and_dict(vocabulary: Vocabulary) -> None:
    policy = loads(FULL, vocabulary=vocabulary)
    assert loads(to_yaml(policy), vocabulary=vocabulary) == policy
    assert from_dict(to_dict(policy), vocabulary) == policy


@given(name=st.text(min_size=1, max_size=30))
@example(name="on")
@example(name="12:30")
@example(name="1e-6")
@example(name="null")
@example(name="# x: {")
def test_any_name_that_is_accepted_survives_yaml(vocabulary: Vocabulary, name: str) -> None:
    try:
        policy = from_dict({"name": name}, vocabulary)
    except PolicyError:
        return
    assert loads(to_yaml(policy), vocabulary=vocabulary) == policy


LINES = st.lists(st.sampled_from(FULL.splitlines()), max_size=12).map("\n".join)
SOUP = st.text(alphabet="abn: -[]{}\n\t#&*!|>'\"%@,?1e0.~\\U", max_size=80)


@given(text=st.one_of(st.text(max_size=80), SOUP, SOUP.map("name: x\n".__add__), LINES))
@example(text="%YAML 9.9\n---\nname: x")
@example(text='name: "\\UFFFFFFFF"')
@example(text="? [a]\n: b")
def test_any_text_is_a_policy_or_a_policy_error(vocabulary: Vocabulary, text: str) -> None:
    problems = problems_of(lambda: loads(text, vocabulary=vocabulary))
    assert all(problem.startswith("policy:") and problem.encode() for problem in problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.sampled_from(
    ["name", "description", "observe", "detect", "respond", "verify", "limits", "forbid", "order"]
)


@given(content=st.dictionaries(SECTIONS, JSON, max_size=4))
def test_any_mapping_is_a_policy_or_a_policy_error(vocabulary: Vocabulary, content: dict[str, Any]) -> None:
    problems = problems_of(lambda: from_dict(content, vocabulary))
    assert all(problem.startswith("policy: ") for problem in problems)


def test_a_mapping_is_checked_as_a_file_is_but_has_no_lines(vocabulary: Vocabulary) -> None:
    with pytest.raises(PolicyError) as caught:
        from_dict({"respond": {"dead_units": ["stop", {"lower_lrs": {}}]}, "limits": {"cooldown": 1.5}}, vocabulary)
    assert caught.value.problems == (
        "policy: limits.cooldown: expected a whole number of at least 0, found 1.5",
        "policy: respond.dead_units[1]: unknown remedy 'lower_lrs'. Did you mean 'lower_lr'?",
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"name": object()}, "policy: name: expected what YAML can hold, found object"),
        ({3: "x"}, "policy: a key must be a word, found 3"),
        ({"detect": {"dead_units": {"window": True}}}, "found true"),
    ],
)
def test_a_mapping_that_no_file_could_hold_is_refused(content: Any, problem: str, vocabulary: Vocabulary) -> None:
    with pytest.raises(PolicyError, match=problem):
        from_dict(content, vocabulary)


def test_a_tuple_or_a_set_stands_for_a_list(vocabulary: Vocabulary) -> None:
    policy = from_dict({"respond": {"dead_units": ("stop",)}, "forbid": {"clip_norm"}}, vocabulary)
    assert policy == from_dict({"respond": {"dead_units": ["stop"]}, "forbid": ["clip_norm"]}, vocabulary)


def test_a_mapping_that_holds_itself_ends_in_a_policy_error(vocabulary: Vocabulary) -> None:
    content: dict[str, Any] = {}
    content["detect"] = content
    with pytest.raises(PolicyError, match="nested deeper than 32 levels"):
        from_dict(content, vocabulary)


def test_a_word_that_is_neither_shipped_nor_a_file_gets_the_nearest_shipped_name() -> None:
    with pytest.raises(PolicyError, match=r"no shipped policy 'defualt'\. Did you mean 'default'\?"):
        load("defualt")


def test_a_shipped_name_wins_over_a_file_called_so_and_a_path_never_means_a_shipped_one(vocabulary: Vocabulary) -> None:
    Path("default").write_text("name: mine\n", encoding="utf-8")
    Path("other").write_text("name: other\n", encoding="utf-8")
    assert load("default").name == "default"
    assert load(Path("default"), vocabulary).name == "mine"
    assert load("other", vocabulary).name == "other"
