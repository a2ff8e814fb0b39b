"""How much the units of a layer differ from each other.

Units that begin alike get the same gradient and stay alike for ever: a layer of a thousand of them is worth one
(constant or zero initialization breaks no symmetry). A corner of each weight matrix tells.

Units that differ do not grow alike within a few samples: where they are far from it, it is looked at in every fourth
sample only, and told again in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import nn

from supervisor.records import FloatArray
from supervisor.signals.figures import Reading

CORNER: Final = 64  # rows (units) and columns (inputs) that are looked at
FAR: Final = 0.1  # what no layer lies below while samples are left out
SKIPPED: Final = 3  # samples in a row, at most


class Spread:
    """The norm of what tells the units of each layer apart over the norm of its weights, 0 to 1.

    NaN for a layer without a matrix of at least two rows; 0 where all rows are equal, all zero included.
    """

    def __init__(self, layers: Sequence[Sequence[nn.Parameter]]) -> None:
        """`layers` holds the parameters of each layer."""
        self.matrices = [_matrix(parameters) for parameters in layers]
        self._rows = [i for i, matrix in enumerate(self.matrices) if matrix is not None]
        self._known: FloatArray = np.full(len(self.matrices), math.nan, np.float32)
        self._skipped = SKIPPED

    def gathered(self, *, quiet: bool) -> list[torch.Tensor]:
        """Return the corners, and behind them what tells their units apart; [] where that is known well enough.

        It may be so only in a training that is `quiet`.
        """
        if quiet and self._skipped < SKIPPED:
            self._skipped += 1
            return []
        corners = [m.detach().flatten(1)[:CORNER, :CORNER].float() for m in self.matrices if m is not None]
        return [*corners, *(corner - corner.mean(0) for corner in corners)]

    def figures(self, count: int, reading: Reading) -> FloatArray:
        """Read the norms of the `count` tensors gathered; return the spread by layer: (layers,)."""
        if count:
            sizes, apart = reading.take(count // 2), reading.take(count // 2)
            self._known = self._known.copy()  # earlier samples keep theirs
            with np.errstate(invalid="ignore"):
                self._known[self._rows] = apart / np.maximum(sizes, np.float32(1e-30))
            self._skipped = 0 if (self._known[self._rows] > FAR).all() else SKIPPED
        return self._known


def _matrix(parameters: Sequence[nn.Parameter]) -> nn.Parameter | None:
    """Return the layer's first matrix of at least two rows."""
    return next((p for p in parameters if p.ndim >= 2 and p.shape[0] >= 2 and p.is_floating_point()), None)
