"""The held-out half: well formed, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from supervisor.clinic.case import Case, Program
from supervisor.clinic.held_out import CASES
from supervisor.diagnoses import causes
from supervisor.records import PATHOLOGIES

FAULTY = [case for case in CASES if not case.healthy]
HEALTHY = [case for case in CASES if case.healthy]
KNOWN_CAUSES = {value for name, value in vars(causes).items() if name.isupper() and isinstance(value, str)}


def first_loss(program: Program) -> Any:
    train_fn, data = program.training.train_fn, program.training.data
    assert data is not None
    with torch.random.fork_rng():
        return train_fn(next(iter(data))).item()


def test_names_are_unique() -> None:
    assert [name for name, n in Counter(case.name for case in CASES).items() if n > 1] == []


def test_there_are_enough_of_each() -> None:
    assert len(FAULTY) >= 44
    assert len(HEALTHY) >= 38
    filed = Counter(case.pathology for case in FAULTY)
    assert {name: filed[name] for name in PATHOLOGIES if filed[name] < 5} == {}


def test_a_name_begins_with_the_family() -> None:
    assert [case.name for case in CASES if not case.name.startswith(f"{case.family}/")] == []


def test_a_fault_has_a_twin_known_names_and_an_onset_within_the_run() -> None:
    for case in FAULTY:
        assert case.twin is not None, case.name
        assert case.expect <= set(PATHOLOGIES), case.name
        assert case.causes, case.name
        assert case.causes <= KNOWN_CAUSES, case.name
        assert 1 <= case.onset < (case.build(0).training.steps or 0) * 0.6, case.name


def test_a_control_says_its_trap() -> None:
    assert [case.name for case in HEALTHY if not case.trap] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_seed_gives_the_same_training_long_enough_for_a_latency(case: Case) -> None:
    torch.set_num_threads(1)
    program = case.build(3)
    assert (program.training.steps or 0) >= 300
    first = first_loss(program)
    assert first_loss(case.build(3)) == pytest.approx(first, rel=0, abs=0, nan_ok=True)
