"""How much the units of a layer differ from each other.

Units that begin alike get the same gradient and stay alike for ever: a layer of a thousand of them is worth one
(constant or zero initialization breaks no symmetry). A corner of each weight matrix tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import nn

CORNER: Final = 64  # rows (units) and columns (inputs) that are looked at


def spread(layers: Iterable[Sequence[nn.Parameter]], device: torch.device) -> torch.Tensor:
    """Return per layer the norm of what tells its units apart over the norm of its weights, 0 to 1: (layers,).

    NaN for a layer without a matrix of at least two rows; 0 where all rows are equal, all zero included.
    """
    corners = [_corner(parameters) for parameters in layers]
    rows = [corner for corner in corners if corner is not None]
    sizes = iter(torch._foreach_norm(rows) if rows else ())  # noqa: SLF001 - the fused form has no public name
    apart = iter(torch._foreach_norm([r - r.mean(0) for r in rows]) if rows else ())  # noqa: SLF001
    unknown = torch.full((), math.nan, device=device)
    known = [(next(apart).to(device), next(sizes).to(device)) if c is not None else (unknown, unknown) for c in corners]
    if not known:
        return torch.zeros(0, device=device)
    differences, norms = (torch.stack(column) for column in zip(*known, strict=True))
    return differences / norms.clamp_min(1e-30)


def _corner(parameters: Sequence[nn.Parameter]) -> torch.Tensor | None:
    """Return a corner of the layer's first matrix, (units, inputs), float32; None without one of two rows."""
    matrix = next((p for p in parameters if p.ndim >= 2 and p.shape[0] >= 2 and p.is_floating_point()), None)
    return None if matrix is None else matrix.detach().flatten(1)[:CORNER, :CORNER].float()
