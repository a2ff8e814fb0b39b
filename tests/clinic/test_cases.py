"""The collection as a whole: complete, well-formed, and picked from as asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.clinic.case import Half
from supervisor.clinic.cases import HALVES, all_cases, cases_of, find, flaws, half_of, quick, select
from supervisor.errors import UsageError
from supervisor.records import PATHOLOGIES
from tests.clinic import tiny

SOME = (tiny.NAN, tiny.SLOW, tiny.DEEP, tiny.HEALTHY)


def test_the_collection_has_no_flaws() -> None:
    assert flaws(all_cases()) == []


def test_there_are_at_least_80_faults_and_70_controls() -> None:
    healthy = [case.healthy for case in all_cases()]
    assert healthy.count(False) >= 80
    assert healthy.count(True) >= 70


@pytest.mark.parametrize("half", HALVES)
def test_each_half_has_every_pathology_and_every_kind_of_network(half: Half) -> None:
    faulty = [case for case in cases_of(half) if not case.healthy]
    assert {case.pathology for case in faulty} == set(PATHOLOGIES)
    assert {"mlp", "cnn", "rnn", "transformer", "autoencoder", "residual"} <= {case.family for case in faulty}


def test_every_control_names_its_trap() -> None:
    assert [case.name for case in all_cases() if case.healthy and not case.trap] == []


def test_a_case_is_found_by_its_name_in_its_half() -> None:
    for half in HALVES:
        case = cases_of(half)[-1]
        assert (find(case.name), half_of(case.name)) == (case, half)


def test_flaws_of_a_collection_are_named() -> None:
    broken = replace(tiny.NAN, twin=None, expect=frozenset({"sadness"}), causes=frozenset(), onset=0, main="plateau")
    assert flaws([*SOME, tiny.HEALTHY, broken]) == [
        "mlp/healthy: the name is given twice",
        "mlp/nan-batch: the name is given twice",
        "mlp/nan-batch: expects unknown pathologies: sadness",
        "mlp/nan-batch: filed under plateau, which it does not expect",
        "mlp/nan-batch: has a fault and no healthy twin",
        "mlp/nan-batch: has a fault and no root cause",
        "mlp/nan-batch: its onset is tick 0, but the first tick is 1",
    ]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ((), ["mlp/nan-batch", "mlp/slow", "mlp/deep-sigmoid", "mlp/healthy"]),
        (("mlp/slow",), ["mlp/slow"]),
        (("*sigmoid*", "healthy"), ["mlp/deep-sigmoid", "mlp/healthy"]),
        (("vanishing_gradients",), ["mlp/slow", "mlp/deep-sigmoid"]),  # an acceptable name of the slow one, too
        (("mlp",), ["mlp/nan-batch", "mlp/slow", "mlp/deep-sigmoid", "mlp/healthy"]),
    ],
)
def test_cases_are_picked_by_name_pathology_and_family(patterns: tuple[str, ...], names: list[str]) -> None:
    assert [case.name for case in select(SOME, patterns)] == names


def test_a_pattern_that_fits_nothing_is_a_mistake_with_a_hint() -> None:
    with pytest.raises(UsageError, match=r"no case fits 'mlp/slwo'.*Did you mean 'mlp/slow'"):
        select(SOME, ["healthy", "mlp/slwo"])


def test_a_fault_is_filed_under_the_name_that_says_most() -> None:
    assert [case.pathology for case in SOME] == ["non_finite", "plateau", "vanishing_gradients", "healthy"]
    assert replace(tiny.SLOW, main="").pathology == "vanishing_gradients"


def test_the_quick_few_are_always_the_same_and_have_every_kind() -> None:
    few = quick(all_cases())
    assert few == quick(all_cases())
    for half in HALVES:
        own = [case for case in few if half_of(case.name) == half]
        assert {case.pathology for case in own} == {*PATHOLOGIES, "healthy"}
        assert 14 + 4 <= len(own) <= 14 + 5
