"""How far a step moved the weights, from a fixed slice of every parameter.

Norms of whole updates would need a second copy of the model. A strided slice of up to SLICE elements estimates
the norm of a parameter's update to a few per cent, at a few kilobytes. The stride shares no factor with the shape,
so that the slice walks through all rows and columns: a column whose input is always 0 is never moved.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import nn

from supervisor.records import FloatArray
from supervisor.signals.norms import norms, real

SLICE: Final = 1024  # elements of a parameter that stand for it


class UpdateProbe:
    """Remembers slices before a step, and measures them after it."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        sizes = [real(p.detach()).numel() for p in parameters]
        self.strides = [_stride(size) for size in sizes]
        self.counts = [math.ceil(size / stride) for size, stride in zip(sizes, self.strides, strict=True)]
        roots = [math.sqrt(size / max(1, count)) for size, count in zip(sizes, self.counts, strict=True)]
        self.scales: FloatArray = np.array(roots, np.float32)
        self._alike = False  # whether all slices are of one type, on one device
        self._before: list[torch.Tensor] | None = None
        self._views: list[torch.Tensor] = []  # the slices, where they are views of the parameters' memory
        self._places: list[int] = []  # that memory

    def _slices(self) -> list[torch.Tensor]:
        places = [p.data_ptr() for p in self.parameters]
        if not self._views or places != self._places:
            pairs = zip(self.parameters, self.strides, strict=True)
            slices = [real(p.detach()).reshape(-1)[::stride] for p, stride in pairs]
            self._alike = len({(s.dtype, s.device) for s in slices}) == 1
            if not all(p.is_contiguous() for p in self.parameters):
                return slices  # copies of some: they would not follow
            self._views, self._places = slices, places
        return self._views

    def _copies(self) -> list[torch.Tensor]:
        """Return the slices as they are now: one tensor of them all where they are alike, at a third of the price."""
        slices = self._slices()
        return [torch.cat(slices)] if self._alike else [s.clone() for s in slices]

    def remember(self) -> None:
        """Copy the slices as they are now."""
        self._before = self._copies()

    def forget(self) -> None:
        """Drop what was remembered: the next figures would not be one step's."""
        self._before = None

    def moved(self) -> list[torch.Tensor]:
        """Return by how much the slice of each parameter has moved since `remember`; [] if unknown.

        Their norms times `scales` are the estimated norms of the updates.
        """
        before, self._before = self._before, None
        after = self._copies() if before is not None else []
        if before is None or len(after) != len(before):
            return []
        moved = [now.float() - then.float() for now, then in zip(after, before, strict=True)]
        return list(moved[0].split(self.counts)) if self._alike else moved

    def norms(self) -> torch.Tensor | None:
        """Return the estimated norm of the update of each parameter, (parameters,), on the device; None if unknown."""
        moved = self.moved()
        if not moved:
            return None
        device = moved[0].device
        return norms(moved, device) * torch.from_numpy(self.scales).to(device)


def _stride(count: int) -> int:
    """Return the smallest stride that leaves at most SLICE of `count` elements and is coprime to `count`."""
    stride = max(1, math.ceil(count / SLICE))
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride
