"""The signal that leaves each layer on its way forward, and the gradient that comes back to it.

The chain rule in figures: the root mean square of the loss's gradient at the output of layer i over that at layer
i + 1 is the factor |dz_{i+1}/dz_i| by which the layers between amplify or damp it (Glorot & Bengio, 2010). Measured
at the layers' outputs, neither the width of a layer nor the optimizer's scaling hides it. Where a layer is applied
many times in one forward pass (a recurrent cell in a loop), or runs through time itself (nn.LSTM), the same is told
by step of time (Pascanu et al., 2013).

Tensors are looked at through a slice of their first dimension, up to ELEMENTS elements. The hooks hang on tensors
of a sampled forward pass alone, and go with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from supervisor.records import TIME_BINS, FloatArray
from supervisor.signals.figures import Reading
from supervisor.signals.norms import real

ELEMENTS: Final = 1 << 16  # of a tensor that stand for it
CALLS: Final = TIME_BINS  # calls of one layer in one forward pass that make it recurrent

Figure = tuple[torch.Tensor, int]  # L2 norm as a 0-dim tensor, elements


def thin(tensor: torch.Tensor) -> torch.Tensor:
    """Return every n-th row of `tensor`, so that about ELEMENTS elements are left."""
    if tensor.ndim == 0 or tensor.numel() <= ELEMENTS:
        return tensor
    return tensor[:: min(len(tensor), math.ceil(tensor.numel() / ELEMENTS))]


def norm(tensor: torch.Tensor) -> Figure:
    """Return the L2 norm of a slice of `tensor`, and how many elements it has."""
    part = thin(real(tensor.detach()))
    part = part if part.dtype == torch.float32 else part.float()
    return torch.linalg.vector_norm(part), part.numel()


@dataclass
class Passage:
    """What went through one layer on a sampled tick."""

    signal: list[Figure] = field(default_factory=list)  # by call
    flow: dict[int, Figure] = field(default_factory=dict)  # by call
    calls: int = 0  # in the forward pass that is running
    longest: int = 0  # calls of one forward pass
    time: torch.Tensor | None = None  # (steps,) rms gradient that arrives at each step's input


class FlowProbe:
    """Collects the passages of one tick."""

    def __init__(self) -> None:
        self.passages: dict[str, Passage] = {}
        self._group = np.zeros(0, np.intp)  # of each norm gathered: the row of its layer, flows behind signals
        self._elements = np.zeros(0)  # of each norm gathered
        self._steps: list[tuple[int, int]] = []  # rows of recurrent layers, and how many steps of time they took

    def begin(self) -> None:
        """Forget the last tick."""
        self.passages = {}

    def begin_forward(self) -> None:
        """Count the calls of each layer anew: a forward pass of the whole model begins."""
        for passage in self.passages.values():
            passage.calls = 0

    def saw(self, layer: str, out: torch.Tensor) -> None:
        """Take in one output of a layer; its gradient follows in backward."""
        if not out.is_floating_point() or not out.numel():
            return
        passage = self.passages.setdefault(layer, Passage())
        call, passage.calls = len(passage.signal), passage.calls + 1
        passage.longest = max(passage.longest, passage.calls)
        passage.signal.append(norm(out))
        if out.requires_grad:
            out.register_hook(lambda gradient: passage.flow.update({call: norm(gradient)}))

    def through_time(self, layer: str, steps: torch.Tensor, *, batch_first: bool) -> None:
        """Watch the gradient that arrives at the inputs of a recurrent layer: (batch, time, features) or time first."""

        def take(gradient: torch.Tensor) -> None:
            across = [d for d in range(gradient.ndim) if d != (1 if batch_first and gradient.ndim > 2 else 0)]
            self.passages.setdefault(layer, Passage()).time = gradient.float().square().mean(across).sqrt()

        steps.register_hook(take)

    def gathered(self, order: Sequence[str]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return what the figures of the layers are made of: norms, 0-dim, and gradients by time, (TIME_BINS,) each."""
        none = Passage()
        passages = [self.passages.get(name, none) for name in order]
        groups = [*(passage.signal for passage in passages), *(list(p.flow.values()) for p in passages)]
        self._group = np.array([row for row, group in enumerate(groups) for _ in group], np.intp)
        self._elements = np.array([count for group in groups for _, count in group], np.float64)
        times = [(row, time) for row, p in enumerate(passages) if (time := _by_time(p)) is not None]
        self._steps = [(row, len(time)) for row, time in times]
        return [figure for group in groups for figure, _ in group], [_binned(time) for _, time in times]

    def figures(self, layers: int, reading: Reading) -> tuple[FloatArray, FloatArray]:
        """Read what was gathered, the norms and behind them the gradients by time; NaN where unknown.

        Return signal, flow and steps of time, (layers, 3), and the gradients by time, (layers, TIME_BINS).
        """
        squares = np.square(reading.take(len(self._group)))
        with np.errstate(invalid="ignore"):
            sums, counts = (np.bincount(self._group, of, 2 * layers) for of in (squares, self._elements))
            roots = np.sqrt(sums / counts)
        passages = np.full((layers, 3), np.nan, np.float32)
        passages[:, 0], passages[:, 1] = roots[:layers], roots[layers:]
        through = np.full((layers, TIME_BINS), np.nan, np.float32)
        for row, steps in self._steps:
            passages[row, 2], through[row] = steps, reading.take(TIME_BINS)
        return passages, through


def _binned(time: torch.Tensor) -> torch.Tensor:
    """Return the gradient by step of time in TIME_BINS equal parts: (TIME_BINS,)."""
    bins = torch.nn.functional.adaptive_avg_pool1d(time.square()[None, None], TIME_BINS)
    return bins.reshape(TIME_BINS).sqrt()


def _by_time(passage: Passage) -> torch.Tensor | None:
    """Return the gradient by step of time, (steps,); None of a layer that is not recurrent."""
    if passage.time is not None:
        return passage.time if len(passage.time) >= TIME_BINS else None
    if passage.longest < CALLS or not passage.flow:
        return None
    last = len(passage.signal) - passage.longest  # the last forward pass of the tick
    calls = [passage.flow.get(call) for call in range(last, len(passage.signal))]
    zero = next(figure for figure in calls if figure is not None)[0].new_zeros(()) if any(calls) else None
    if zero is None:
        return None
    return torch.stack([figure[0] / math.sqrt(max(1, figure[1])) if figure is not None else zero for figure in calls])
