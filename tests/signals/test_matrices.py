"""How often it is looked at how much units differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from supervisor.signals.figures import Reading
from supervisor.signals.matrices import SKIPPED, Spread
from supervisor.signals.norms import each_norm


def looked(spread: Spread, *, quiet: bool = True) -> tuple[bool, float]:
    """Return whether the layer was looked at, and what is known of it."""
    parts = spread.gathered(quiet=quiet)
    found = spread.figures(len(parts), Reading(np.array([float(norm) for norm in each_norm(parts)])))
    return bool(parts), float(found[0])


def test_units_that_differ_are_looked_at_in_every_fourth_sample_of_a_quiet_training() -> None:
    layer = nn.Linear(8, 8)
    spread = Spread([list(layer.parameters())])
    seen = [looked(spread) for _ in range(9)]
    assert [look for look, _ in seen] == [n % (SKIPPED + 1) == 0 for n in range(9)]
    assert len({value for _, value in seen}) == 1
    assert [looked(spread, quiet=False)[0] for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("differing", [0.0, 1e-3, 0.05])
def test_units_that_hardly_differ_are_looked_at_in_every_sample(differing: float) -> None:
    layer = nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.ones(8, 8) + differing * torch.randn(8, 8))
    spread = Spread([list(layer.parameters())])
    for look, value in [looked(spread) for _ in range(5)]:
        assert look
        assert value <= 2.0 * differing
