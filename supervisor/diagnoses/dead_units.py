"""Units that are silent on all inputs of a window of diverse batches.

Zeros are not deadness: a healthy ReLU layer outputs 50 % zeros, up to 87 % under SGD, without one dead unit.
A unit is dead when no input of many batches wakes it. The sensor counts, per unit, the samples it has been silent
in a row; here the share of a layer that has been silent throughout the window is judged. Harm is capacity
lost: nearly the whole layer, or most of it in a training that makes no progress and is not solved. Half is not
enough: in a deep network at PyTorch's default initialization the signal fades beside the biases, half of the later
units are silent on every input for a while, and wake up as it learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated

from pydantic import Field

from supervisor.diagnoses import causes
from supervisor.diagnoses.deaths import death_causes
from supervisor.diagnoses.past import Past
from supervisor.records import SILENCE_LENGTHS, Finding, FloatArray, Snapshot
from supervisor.registry import DETECTORS


@DETECTORS.register("dead_units")
@dataclass(frozen=True)
class DeadUnits:
    """A share of a layer's units silent in every sample of the window."""

    fraction: Annotated[float, Field(gt=0, le=1, description="share of a layer's units")] = 0.75
    severe: Annotated[float, Field(gt=0, le=1, description="share of a layer's units that is harm by itself")] = 0.95
    window: Annotated[int, Field(ge=10, le=2000, description="ticks a unit has been silent")] = 60
    samples: Annotated[int, Field(ge=4, le=128, description="samples in the window, at least")] = 16
    zero_fraction: Annotated[float | None, Field(gt=0, lt=1, description="share of zeros in one batch instead")] = None

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding naming the layers that lost their units."""
        if now.sample is None or not now.finite or not now.anatomy.sites:
            return None
        if self.zero_fraction is not None:
            return self._finding(now, past, now.sample.zeros, self.zero_fraction, 1)
        sampled = 1 + sum(1 for _ in takewhile(lambda s: s.tick > now.tick - self.window, reversed(past.samples)))
        sampled = max(sampled, self.samples)  # where samples are sparse, the window reaches further back
        column = max(k for k, length in enumerate(SILENCE_LENGTHS) if length <= sampled)
        shares = now.sample.silent[:, column]
        limit = self.fraction if self._no_progress(past) else self.severe
        return self._finding(now, past, shares, limit, SILENCE_LENGTHS[column])

    def _no_progress(self, past: Past) -> bool:
        solved = past.level(min(self.window, 40) // 2) < 0.1 * past.initial_loss
        return past.stands(min(self.window, 40)) and not solved

    def _finding(self, now: Snapshot, past: Past, shares: FloatArray, limit: float, samples: int) -> Finding | None:
        if not (shares > limit).any():
            return None
        hit = [(site, float(share)) for site, share in zip(now.anatomy.sites, shares, strict=True) if share > limit]
        trained = {None, *(layer.name for layer in now.anatomy.layers)}  # nothing is lost in a frozen one
        hit = [(site, share) for site, share in hit if site.hidden and site.producer in trained]
        if not hit:
            return None
        where = tuple(dict.fromkeys(site.producer or site.name for site, _ in hit))
        worst = max(share for _, share in hit)
        lost = sum(share * site.units for site, share in hit)
        units = sum(site.units for site in now.anatomy.sites if site.hidden)
        evidence = {
            "value": worst,
            "limit": limit,
            "figure": "share of dead units" if self.zero_fraction is None else "share of zero activations",
            "samples": samples,
            "shares": {site.name: share for site, share in hit},
            "capacity_lost": lost / max(units, 1),
            "gradients": _gradients(now, where),
        }
        site = now.anatomy.sites.index(max(hit, key=lambda pair: pair[1])[0])  # the worst, of equals the first
        ranked = causes.first(death_causes(now, past, site, limit))
        return Finding("dead_units", now.tick, now.step, where, min(1.0, worst), evidence=evidence, **ranked)


def _gradients(now: Snapshot, where: tuple[str, ...]) -> dict[str, float]:
    """Return the gradient norms of these layers: units that are silent on every input get none."""
    pairs = zip(now.anatomy.layers, now.grad_norms, strict=True)
    return {layer.name: float(norm) for layer, norm in pairs if layer.name in where}
