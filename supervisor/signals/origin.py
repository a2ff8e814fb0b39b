"""Where a non-finite value began. The walk happens only on ticks already known bad."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from supervisor.run import TrainingRun


def _floats(value: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401 - a batch may be anything
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _floats(item)


def origin_of(run: TrainingRun, batches: list[Any], loss: float) -> str:
    """Return "batch", "parameters", "loss" or "gradients": the first of them that is not finite."""
    if any(not bool(torch.isfinite(tensor).all()) for tensor in _floats(batches)):
        return "batch"
    if any(not bool(torch.isfinite(p).all()) for p in run.model.parameters()):
        return "parameters"
    return "gradients" if math.isfinite(loss) else "loss"
