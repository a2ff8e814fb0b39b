"""Hidden units pinned at their ends: named where the training pays for it, left alone where it does not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from supervisor.diagnoses import causes
from supervisor.diagnoses.saturation import Saturation
from supervisor.records import Finding, FloatArray, Sample, Snapshot
from tests.diagnoses.recurrent import Reader, places, scaled
from tests.diagnoses.shots import full, past_of, sample, shot
from tests.diagnoses.trainings import Batch, deep, digits_like, optimizers, watch


def random_labels() -> Iterator[Batch]:
    for x, y in digits_like():
        yield x, torch.randint(4, y.shape)


Sick = tuple[Callable[[], nn.Module], Callable[[], Iterator[Batch]], str]
SICK: dict[str, Sick] = {
    "lstm gates": (lambda: Reader(nn.LSTM, 30.0), lambda: places(20, 0), causes.INITIALIZATION),  # type: ignore[arg-type]
    "gru gates": (lambda: Reader(nn.GRU, 30.0), lambda: places(20, 0), causes.INITIALIZATION),  # type: ignore[arg-type]
    "a recurrent tanh": (lambda: Reader(nn.RNN, 10.0), lambda: places(20, 0), causes.INITIALIZATION),
    "hidden tanh": (lambda: scaled(deep(nn.Tanh, depth=8), 30.0), random_labels, causes.INITIALIZATION),
    "hidden sigmoid": (lambda: scaled(deep(nn.Sigmoid, depth=5), 60.0), random_labels, causes.INITIALIZATION),
}


@pytest.mark.parametrize("name", SICK)
def test_pinned_hidden_units_are_named_with_their_cause(name: str) -> None:
    torch.manual_seed(0)
    build, data, cause = SICK[name]
    model = build()
    found = watch(model, optimizers(1e-3)["adam"](model), data(), 200).of("saturation")
    assert found
    assert found[0].cause == cause
    assert found[0].evidence["value"] > 0.6
    assert found[0].evidence["gradient_passed"] < 0.5


HEALTHY: dict[str, tuple[Callable[[], nn.Module], Callable[[], Iterator[Batch]]]] = {
    "tanh": (lambda: deep(nn.Tanh, depth=8), digits_like),
    "large weights that learn": (lambda: scaled(deep(nn.Tanh, depth=4), 4.0), digits_like),
    "nothing to learn": (lambda: deep(nn.Tanh, depth=4), random_labels),
    "an lstm": (lambda: Reader(nn.LSTM), lambda: places(20, -1)),  # type: ignore[arg-type]
    "an lstm with nothing to learn": (lambda: Reader(nn.LSTM), lambda: places(60, 0)),  # type: ignore[arg-type]
    "a solved task with a sigmoid output": (
        lambda: nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 4), nn.Sigmoid()), digits_like,
    ),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_squashing_networks_are_left_alone(name: str, optimizer: str) -> None:
    torch.manual_seed(0)
    build, data = HEALTHY[name]
    model = build()
    assert watch(model, optimizers(3e-3)[optimizer](model), data(), 400).of("saturation") == []


def test_inputs_out_of_scale_are_told_from_large_weights() -> None:
    """The weights are as they should be, and the units pinned all the same."""

    def large() -> Iterator[Batch]:
        for x, y in random_labels():
            yield 1000.0 * x, y

    torch.manual_seed(0)
    model = deep(nn.Tanh, depth=4)
    found = watch(model, optimizers(1e-4)["adam"](model), large(), 200).of("saturation")
    assert found[0].cause == causes.INPUT_SCALE
    assert found[0].where[0] == "0"


def pinned(*shares: float) -> FloatArray:
    return np.array(shares, np.float32)


def standing(shares: FloatArray, last: FloatArray | None = None, loss: float = 1.0) -> Finding | None:
    """Return the finding of a run whose loss stands while the sites are pinned to `shares`, and `last` in the end."""
    shots: list[Snapshot] = [shot(t, 1.0 if t < 20 else loss, sample=_with(shares)) for t in range(1, 80)]
    return Saturation().inspect(shot(80, loss, sample=_with(shares if last is None else last)), past_of(shots))


def _with(shares: FloatArray) -> Sample:
    return dataclasses.replace(sample(), pinned=shares, slope=1.0 - shares, signal=full(1.0, 5))


def test_one_sample_of_several_is_not_enough() -> None:
    assert standing(pinned(0.9, 0, 0, 0)) is not None
    assert standing(pinned(0, 0, 0, 0), last=pinned(0.9, 0, 0, 0)) is None


def test_a_solved_task_may_pin_what_it_likes() -> None:
    assert standing(pinned(0.9, 0.9, 0.9, 0.9), loss=0.01) is None


def test_sites_without_a_figure_are_no_finding() -> None:
    assert standing(full(math.nan, 4)) is None
    assert standing(pinned(math.nan, 0.9, 0, 0)) is not None
