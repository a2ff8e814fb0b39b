"""A compiled model is compiled for its own sake, not again and again for being watched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.signals.watching import Watching, mlp, vectors


@pytest.mark.parametrize("whole", [True, False])
def test_a_compiled_model_is_not_compiled_anew_for_every_sample(whole: bool) -> None:  # noqa: FBT001
    """Also where only a part of it is compiled. Weights, updates and gradients are measured all the same."""
    torch._dynamo.reset()
    model: nn.Module = mlp()
    if whole:
        model = torch.compile(model, backend="eager")  # type: ignore[assignment]
    else:
        model[2].compile(backend="eager")  # type: ignore[index]
    watching = Watching(model)
    torch._dynamo.utils.counters.clear()
    shots = [watching.tick(vectors()) for _ in range(20)]
    assert sum(torch._dynamo.utils.counters["frames"].values()) < 10
    last = shots[-1].sample
    assert last is not None
    assert (last.update_norms > 0).all()
    assert (last.weight_norms > 0).all()
