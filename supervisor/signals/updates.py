"""How far a step moved the weights, from a fixed slice of every parameter.

Norms of whole updates would need a second copy of the model. A strided slice of up to SLICE elements estimates
the norm of a parameter's update to a few per cent, at a few kilobytes.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn

SLICE: Final = 1024  # elements of a parameter that stand for it


class UpdateProbe:
    """Remembers slices before a step, and measures them after it."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.strides = [max(1, math.ceil(p.numel() / SLICE)) for p in parameters]
        self.scales = [
            math.sqrt(p.numel() / math.ceil(p.numel() / s)) for p, s in zip(parameters, self.strides, strict=True)
        ]
        self._before: list[torch.Tensor] | None = None

    def _slices(self) -> list[torch.Tensor]:
        pairs = zip(self.parameters, self.strides, strict=True)
        return [p.detach().reshape(-1)[::stride].float() for p, stride in pairs]

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
        moved = torch._foreach_sub(self._slices(), self._before)  # noqa: SLF001 - the fused form has no public name
        self._before = None
        norms = torch.stack(torch._foreach_norm(moved))  # noqa: SLF001
        return norms * torch.tensor(self.scales, device=norms.device)
