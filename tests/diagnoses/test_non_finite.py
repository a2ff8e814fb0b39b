"""NaN and Inf are seen in the tick in which they happen, with where they began."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from supervisor.diagnoses.non_finite import NonFinite
from supervisor.diagnoses.past import Past
from tests.diagnoses.shots import past_of, sample, shot, usual
from tests.diagnoses.trainings import deep, digits_like, he, watch


@pytest.mark.parametrize(
    ("origin", "cause"),
    [("batch", "bad batch"), ("parameters", "non-finite parameters"), ("loss", "forward"), ("gradients", "backward")],
)
def test_the_cause_is_where_it_began(origin: str, cause: str) -> None:
    finding = NonFinite().inspect(shot(5, math.nan, origin=origin), Past())
    assert finding is not None
    assert cause in finding.cause
    assert finding.evidence["origin"] == origin


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
