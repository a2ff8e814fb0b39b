"""NaN and Inf are seen in the tick in which they happen, with where they began."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from supervisor.diagnoses import causes
from supervisor.diagnoses.non_finite import NonFinite
from supervisor.diagnoses.past import Past
from supervisor.records import ORIGINS
from tests.diagnoses.shots import examined, past_of, sample, shot, usual
from tests.diagnoses.trainings import deep, digits_like, he, watch

CAUSES = {
    "input": causes.BAD_BATCH,
    "target": causes.BAD_TARGET,
    "parameters": causes.BAD_PARAMETERS,
    "buffers": causes.BAD_BUFFERS,
    "optimizer": causes.BAD_OPTIMIZER,
    "forward": causes.FORWARD_OVERFLOW,
    "loss": causes.LOSS_OVERFLOW,
    "backward": causes.BACKWARD_OVERFLOW,
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_cause_is_where_it_began(origin: str) -> None:
    finding = NonFinite().inspect(shot(61, math.nan, origin=origin, origin_layer="c"), past_of(usual(60)))
    assert finding is not None
    assert finding.cause == finding.causes[0].name == CAUSES[origin]
    assert (finding.evidence["origin"], finding.evidence["origin_layer"], finding.where) == (origin, "c", ("c",))


@pytest.mark.parametrize("origin", ["parameters", "forward", "loss", "backward"])
def test_what_overflows_in_a_loss_that_was_climbing_is_the_steps_fault(origin: str) -> None:
    climbing = [shot(60 + t, 10.0**t, 10.0**t) for t in range(1, 8)]
    finding = NonFinite().inspect(shot(68, math.nan, origin=origin), past_of([*usual(60), *climbing]))
    assert finding is not None
    assert finding.cause == causes.LARGE_LR
    assert {cause.name for cause in finding.causes} >= {CAUSES[origin]}


def test_a_bad_batch_in_a_loss_that_was_climbing_is_still_a_bad_batch() -> None:
    climbing = [shot(60 + t, 10.0**t, 10.0**t) for t in range(1, 8)]
    finding = NonFinite().inspect(shot(68, math.nan, origin="input"), past_of([*usual(60), *climbing]))
    assert finding is not None
    assert finding.cause == causes.BAD_BATCH


def test_one_bad_tick_is_told_from_a_fault_that_stays() -> None:
    shots = [*usual(60), *(shot(60 + t, math.nan, origin="loss") for t in range(1, 5)), shot(65), shot(66, math.nan)]
    found = examined(shots)
    assert [f.evidence["in_a_row"] for f in found] == [1, 2, 3, 4, 1]
    assert [f.evidence["persistent"] for f in found] == [False, False, True, True, False]


@pytest.mark.parametrize("origin", ["parameters", "buffers", "optimizer"])
def test_what_is_kept_between_ticks_stays_ruined_from_the_first_on(origin: str) -> None:
    """Buffers and the optimizer's state may be ruined although loss and gradients are finite."""
    finding = NonFinite().inspect(shot(61, origin=origin), past_of(usual(60)))
    assert finding is not None
    assert (finding.evidence["persistent"], finding.evidence["in_a_row"]) == (True, 0)


def test_the_layers_hit_are_named() -> None:
    finding = NonFinite().inspect(
        shot(5, 1.0, math.nan, grad_norms=np.array([1, np.nan, 1, np.inf, 1], np.float32)), Past()
    )
    assert finding is not None
    assert finding.where == ("b", "d")


def test_a_ruined_parameter_is_found_though_loss_and_gradients_are_finite() -> None:
    """A row of an embedding that this batch does not use."""
    norms = np.array([1, 1, np.nan, 1, 1], np.float32)
    finding = NonFinite().inspect(
        shot(61, sample=dataclasses.replace(sample(), weight_norms=norms)), past_of(usual(60))
    )
    assert finding is not None
    assert (finding.where, finding.evidence["origin"]) == (("c",), "parameters")


def test_a_parameter_that_was_born_infinite_is_a_mask() -> None:
    masked = dataclasses.replace(sample(), weight_norms=np.array([1, 1, np.inf, 1, 1], np.float32))
    past = past_of(shot(t, sample=masked) for t in range(1, 10))
    assert NonFinite().inspect(shot(10, sample=masked), past) is None


def test_an_unknown_update_is_no_fault() -> None:
    assert NonFinite().inspect(shot(1, sample=sample(moved=math.nan)), Past()) is None


def test_a_bad_batch_is_found_in_its_tick_and_so_is_what_it_leaves_behind() -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=3))
    data = digits_like()

    def batches() -> object:
        for tick in range(1, 40):
            x, y = next(data)
            if tick == 20:
                x[0, 0] = math.nan
            yield x, y

    seen = watch(model, torch.optim.Adam(model.parameters()), iter(batches()), 25)  # type: ignore[call-overload]
    found = seen.of("non_finite")
    assert [finding.tick for finding in found] == list(range(20, 26))
    assert found[0].cause == "bad batch"
    assert {finding.cause for finding in found[1:]} == {"non-finite parameters"}
    assert seen.findings == found
