"""How far a step moved the weights, from a fixed slice of every parameter.

Norms of whole updates would need a second copy of the model. A strided slice of up to SLICE elements estimates
the norm of a parameter's update to a few per cent, at a few kilobytes. The stride shares no factor with the shape,
so that the slice walks through all rows and columns: a column whose input is always 0 is never moved.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn

from supervisor.signals.norms import norms, real

SLICE: Final = 1024  # elements of a parameter that stand for it


class UpdateProbe:
    """Remembers slices before a step, and measures them after it."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        sizes = [real(p.detach()).numel() for p in parameters]
        self.strides = [_stride(size) for size in sizes]
        counts = [max(1, math.ceil(size / stride)) for size, stride in zip(sizes, self.strides, strict=True)]
        self.scales = [math.sqrt(size / count) for size, count in zip(sizes, counts, strict=True)]
        self._before: list[torch.Tensor] | None = None
        self._views: list[torch.Tensor] = []  # the slices, where they are views of the parameters' memory
        self._places: list[int] = []  # that memory

    def _slices(self) -> list[torch.Tensor]:
        places = [p.data_ptr() for p in self.parameters]
        if not self._views or places != self._places:
            pairs = zip(self.parameters, self.strides, strict=True)
            slices = [real(p.detach()).reshape(-1)[::stride] for p, stride in pairs]
            if not all(p.is_contiguous() for p in self.parameters):
                return slices  # copies of some: they would not follow
            self._views, self._places = slices, places
        return self._views

    def remember(self) -> None:
        """Copy the slices as they are now."""
        self._before = [s.clone() for s in self._slices()]

    def forget(self) -> None:
        """Drop what was remembered: the next figures would not be one step's."""
        self._before = None

    def norms(self) -> torch.Tensor | None:
        """Return the estimated norm of the update of each parameter, (parameters,), on the device; None if unknown."""
        if self._before is None:
            return None
        now, before = ([s.float() for s in slices] for slices in (self._slices(), self._before))
        moved = torch._foreach_sub(now, before)  # noqa: SLF001 - the fused form has no public name
        self._before = None
        return norms(list(moved), moved[0].device) * torch.tensor(self.scales, device=moved[0].device)


def _stride(count: int) -> int:
    """Return the smallest stride that leaves at most SLICE of `count` elements and is coprime to `count`."""
    stride = max(1, math.ceil(count / SLICE))
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride
