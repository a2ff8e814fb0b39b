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

import torch

from supervisor.records import TIME_BINS
from supervisor.signals.norms import real

ELEMENTS: Final = 1 << 16  # of a tensor that stand for it
PASSAGE_FIGURES: Final = 3 + TIME_BINS  # of a layer in `FlowProbe.figures`
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
    return torch.linalg.vector_norm(part.float()), part.numel()


def rms(figures: Sequence[Figure]) -> torch.Tensor:
    """Return the root mean square over all elements of `figures`: 0-dim."""
    if len(figures) == 1:
        return figures[0][0] / math.sqrt(max(1, figures[0][1]))
    total = torch.stack([figure for figure, _ in figures]).square().sum()
    return (total / max(1, sum(count for _, count in figures))).sqrt()


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

    def figures(self, order: Sequence[str], device: torch.device) -> torch.Tensor:
        """Return signal, flow, steps of time and gradient by time, NaN where unknown: (layers, 3 + TIME_BINS)."""
        if not order:
            return torch.zeros(0, PASSAGE_FIGURES, device=device)
        passages = [self.passages.get(name, Passage()) for name in order]
        groups = [*(passage.signal for passage in passages), *(list(p.flow.values()) for p in passages)]
        unknown = torch.full((), math.nan, device=device)
        # One stack for all layers: these are scalars, and each call costs more than all of the arithmetic.
        both = torch.stack([rms(group).to(device) if group else unknown for group in groups])
        through = torch.full((len(order), 1 + TIME_BINS), math.nan, device=device)
        for row, passage in enumerate(passages):
            if (time := _by_time(passage)) is not None:
                bins = torch.nn.functional.adaptive_avg_pool1d(time.square()[None, None], TIME_BINS)
                through[row, 0], through[row, 1:] = len(time), bins.reshape(TIME_BINS).sqrt()
        return torch.cat([both.view(2, -1).T, through], 1)


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
    return torch.stack([rms([figure]) if figure is not None else zero for figure in calls])
