"""One place where an activation is applied, while it is watched: who reads it, and which units stay silent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import torch

from supervisor.activations import SILENT_AT_ZERO, SLOPES
from supervisor.records import SILENCE_LENGTHS, Site
from supervisor.signals.flow import thin

NOT_NEGATIVE: Final = frozenset({"relu", "relu6"})
ROWS: Final = 32  # inputs (pixels of one too) that make a sample: tiny batches add up, their silence says nothing

SITE_FIGURES: Final = len(SILENCE_LENGTHS) + 3  # of `Watched.figures`

Key = tuple[str, str, str | None]  # owner, function, producer


@dataclass
class Watched:
    """One site while the forward runs, and the silence of its units over the samples."""

    key: Key
    module: bool  # an activation module, not a functional call
    calls: set[int] = field(default_factory=set)
    consumers: dict[str, None] = field(default_factory=dict)
    gate: bool = False
    units: int = 0
    rows: int = 0  # inputs since the last sample
    awake: torch.Tensor | None = None  # (units,) bool, since the last sample
    silent_for: torch.Tensor | None = None  # (units,) int32, samples in a row
    zeros: torch.Tensor | None = None  # 0-dim, this forward
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
        self.zeros = 1.0 - counts.sum() / out.numel()
        awake = counts != 0
        if self.awake is not None and self.awake.shape == awake.shape:
            self.awake = self.awake | awake
        else:
            self.awake, self.rows = awake, 0
        self.rows += out.numel() // self.units

    def close_sample(self) -> None:
        """Count the silence of the inputs seen since the last sample, if they are enough for one."""
        if self.awake is None or self.rows < ROWS:
            return
        if self.silent_for is None or self.silent_for.shape != self.awake.shape:
            self.silent_for = torch.zeros_like(self.awake, dtype=torch.int32)
        self.silent_for = torch.where(self.awake, 0, self.silent_for + 1)
        self.awake, self.rows = None, 0

    def figures(self, device: torch.device) -> torch.Tensor:
        """Return the shares of silent units by SILENCE_LENGTHS, of zeros, the slope, and the pinned share: (11,)."""
        silent = torch.zeros(len(SILENCE_LENGTHS), device=device)
        if self.silent_for is not None:
            lengths = torch.tensor(SILENCE_LENGTHS, device=device, dtype=torch.int32)
            silent = (self.silent_for >= lengths[:, None]).float().mean(1)
        zeros = self.zeros if self.zeros is not None else torch.zeros((), device=device)
        slope = torch.stack(self.slopes).mean(0) if self.slopes else torch.full((2,), math.nan, device=device)
        self.slopes = []
        return torch.cat([silent, zeros.reshape(1), slope])

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
