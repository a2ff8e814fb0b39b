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
    return torch.stack([_of(parameters, device) for parameters in layers])


def _of(parameters: Sequence[nn.Parameter], device: torch.device) -> torch.Tensor:
    matrix = next((p for p in parameters if p.ndim >= 2 and p.shape[0] >= 2 and p.is_floating_point()), None)
    if matrix is None:
        return torch.full((), math.nan, device=device)
    rows = matrix.detach().flatten(1)[:CORNER, :CORNER].float()
    differences: torch.Tensor = torch.linalg.vector_norm(rows - rows.mean(0))
    return differences.div(torch.linalg.vector_norm(rows).clamp_min(1e-30)).to(device)
