"""One place where an activation is applied, while it is watched: who reads it, and which units stay silent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from supervisor.activations import SILENT_AT_ZERO, SLOPES
from supervisor.records import SILENCE_LENGTHS, Site
from supervisor.signals.flow import thin

NOT_NEGATIVE: Final = frozenset({"relu", "relu6"})
ROWS: Final = 32  # inputs (pixels of one too) that make a sample: tiny batches add up, their silence says nothing

SITE_FIGURES: Final = len(SILENCE_LENGTHS) + 3  # of a site in `figures_of`

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

    def site(self, taken: dict[str, int]) -> Site:
        """Return it as a fact. `taken` counts the names given so far, to tell apart what would be called alike."""
        owner, function, producer = self.key
        calls, consumers = tuple(sorted(self.calls)), tuple(self.consumers)
        name = owner if self.module else f"{owner}:{function}:{calls[0]}"
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:  # one activation module applied after several layers
            name = f"{name}@{producer}"
        return Site(name, function, owner, calls, producer, self.units, bool(consumers), self.gate, consumers)


def figures_of(sites: Sequence[Watched], device: torch.device) -> torch.Tensor:
    """Return by site the shares of silent units by SILENCE_LENGTHS, of zeros, the slope, and the pinned share.

    (sites, SITE_FIGURES), NaN for slopes that are not known. Few calls for all sites: each costs more than its work.
    """
    if not sites:
        return torch.zeros(0, SITE_FIGURES, device=device)
    nothing, unknown = torch.zeros((), device=device), torch.full((2,), math.nan, device=device)
    zeros = torch.stack([w.zeros.to(device) if w.zeros is not None else nothing for w in sites])
    slopes = torch.stack([torch.stack(w.slopes).mean(0).to(device) if w.slopes else unknown for w in sites])
    for watched in sites:
        watched.slopes = []
    return torch.cat([_silent(sites, device), zeros[:, None], slopes], 1)


def _silent(sites: Sequence[Watched], device: torch.device) -> torch.Tensor:
    """Return the shares of units silent for SILENCE_LENGTHS samples running: (sites, lengths)."""
    counts = [w.silent_for.to(device) for w in sites if w.silent_for is not None]
    never = torch.zeros(len(SILENCE_LENGTHS), device=device)
    if not counts:
        return never.expand(len(sites), -1)
    lengths = 2 ** torch.arange(len(SILENCE_LENGTHS), device=device, dtype=torch.int32)
    silent = (torch.cat(counts) >= lengths[:, None]).float()
    parts = iter(silent.split([len(count) for count in counts], 1))
    return torch.stack([next(parts).mean(1) if w.silent_for is not None else never for w in sites])


def _slope(function: str, out: torch.Tensor) -> torch.Tensor:
    """Return the mean slope of a squashing function and the share of outputs near its ends: (2,)."""
    derivative, end = SLOPES[function]
    slope = derivative(thin(out).float())
    return torch.stack([slope.mean(), (slope < end).float().mean()])
