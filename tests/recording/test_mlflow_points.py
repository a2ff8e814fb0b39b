from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from supervisor.recording.mlflow_points import LAYERS, Points, key
from supervisor.records import Anatomy, Layer, Snapshot


@given(st.text(min_size=1))
def test_any_name_becomes_one_that_mlflow_accepts(name: str) -> None:
    _validate_metric_name(key(f"eval/{name}"))  # type: ignore[no-untyped-call]


def test_a_deep_model_gets_curves_for_few_layers_and_the_same_after_a_surgery(
    shot: Callable[..., Snapshot],
) -> None:
    layers = tuple(Layer(f"blocks.{i}", "linear", 9) for i in range(200))
    points = Points(expected=100)
    names = []
    for tick, depth in ((1, layers), (2, (*layers[:50], Layer("added", "norm", 4), *layers[50:]))):
        norms = np.arange(len(depth), dtype=np.float32)
        now = dataclasses.replace(shot(tick), anatomy=Anatomy(depth), grad_norms=norms)
        told = {name: value for name, value, _, _ in points.snapshot(now) if name.startswith("layers/")}
        assert {int(value) for name, value in told.items() if name.endswith(".199")} == {len(depth) - 1}
        names.append(set(told))
    assert len(names[0]) == LAYERS
    assert names[0] == names[1]
    assert {"layers/grad_norm/blocks.0", "layers/grad_norm/blocks.199"} <= names[0]


def test_a_model_without_activation_sites_has_no_share_of_dead_units(shot: Callable[..., Snapshot]) -> None:
    now = shot(10)
    assert now.sample is not None
    bare = dataclasses.replace(now.sample, silent=np.empty((0, 8), np.float32), zeros=np.empty(0, np.float32))
    told = Points(100).snapshot(dataclasses.replace(now, sample=bare))
    assert "supervisor/dead_share" not in {name for name, *_ in told}
