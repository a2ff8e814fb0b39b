"""Where a non-finite value began."""

from __future__ import annotations

import math

import torch

from supervisor.signals.origin import origin_of
from tests.signals.watching import Watching, layer, mlp, vectors


def test_where_a_non_finite_value_began_is_told() -> None:
    bad = vectors()
    bad[3, 2] = math.nan
    assert Watching(mlp()).tick(bad).origin == "batch"

    ruined = mlp()
    with torch.no_grad():
        layer(ruined, "2").weight[0, 0] = math.inf
    assert Watching(ruined).tick(vectors()).origin == "parameters"

    model = mlp()
    assert Watching(model, lambda x: (model(x) * 1e30).square().mean()).tick(vectors()).origin == "loss"

    model = mlp()
    rooted = Watching(model, lambda x: (model(x) * 0.0).abs().sqrt().mean())  # the slope of a root at 0 is infinite
    now = rooted.tick(vectors())
    assert (now.finite, now.origin, math.isfinite(now.loss)) == (False, "gradients", True)


def test_batches_of_any_shape_are_looked_into() -> None:
    bad = torch.tensor([[math.inf] * 6])
    for batch in ({"x": bad}, [bad, 3], ({"deep": (bad,)}, "label"), (torch.tensor([1]), bad)):
        assert origin_of(Watching(mlp()).run, [batch], math.nan) == "batch"
    assert origin_of(Watching(mlp()).run, [{"x": torch.zeros(2), "y": None}, 3], math.nan) == "loss"


def test_a_healthy_tick_has_no_origin() -> None:
    assert Watching(mlp()).tick(vectors()).origin == ""
