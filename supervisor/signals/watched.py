"""One place where an activation is applied, while it is watched: who reads it, and what its units did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import torch

from supervisor.activations import SILENT_AT_ZERO, SLOPES
from supervisor.records import Site
from supervisor.signals.flow import thin

NOT_NEGATIVE: Final = frozenset({"relu", "relu6"})
ROWS: Final = 32  # inputs (pixels of one too) that make a sample: tiny batches add up, their silence says nothing

Key = tuple[str, str, str | None]  # owner, function, producer


@dataclass
class Watched:
    """One site while the forward runs. What it gathers stays on the device until the figures of the tick are read."""

    key: Key
    module: bool  # an activation module, not a functional call
    calls: set[int] = field(default_factory=set)
    consumers: dict[str, None] = field(default_factory=dict)
    gate: bool = False
    units: int = 0
    rows: int = 0  # inputs since the last sample
    counts: torch.Tensor | None = None  # (units,) how many of those each unit was awake on
    last: torch.Tensor | None = None  # (units,) the same of the last call, until it is read
    size: int = 0  # elements of the last call's output
    slopes: list[torch.Tensor] = field(default_factory=list)  # (2,) mean slope and pinned share, by call of this tick

    def take(self, out: torch.Tensor, *, conv: bool) -> None:
        """Take in one output of the activation, (batch, units, ...) where `conv`, else (..., units)."""
        if not out.numel():
            return  # an expert that no input was routed to has not been silent
        unit_dim = 1 if conv else out.ndim - 1
        self.units = out.shape[unit_dim]
        if self.key[1] in SLOPES:
            self.slopes.append(_slope(self.key[1], out))
        if self.key[1] not in SILENT_AT_ZERO:
            return
        # One pass: where nothing is negative, the signs count what is not zero. Ten times cheaper than a comparison.
        lit = out.sign() if self.key[1] in NOT_NEGATIVE else (out != 0).float()
        counts = lit.sum([d for d in range(out.ndim) if d != unit_dim], dtype=torch.float32)
        self.last, self.size = counts, out.numel()
        if self.counts is None or self.counts.shape != counts.shape:
            self.counts, self.rows = counts, 0
        else:
            self.counts = self.counts + counts
        self.rows += self.size // self.units

    def site(self, taken: dict[str, int]) -> Site:
        """Return it as a fact. `taken` counts the names given so far, to tell apart what would be called alike."""
        owner, function, producer = self.key
        calls, consumers = tuple(sorted(self.calls)), tuple(self.consumers)
        name = owner if self.module else f"{owner}:{function}:{calls[0]}"
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:  # one activation module applied after several layers
            name = f"{name}@{producer}"
        return Site(name, function, owner, calls, producer, self.units, bool(consumers), self.gate, consumers)


def _slope(function: str, out: torch.Tensor) -> torch.Tensor:
    """Return the mean slope of a squashing function and the share of outputs near its ends: (2,)."""
    derivative, end = SLOPES[function]
    slope = derivative(thin(out).float())
    return torch.stack([slope.mean(), (slope < end).float().mean()])
