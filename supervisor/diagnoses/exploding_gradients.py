"""Gradients far above what this training is used to, with harm to show for it.

A fixed norm mistakes the scale of the loss for health, and a large gradient alone hurts nobody. So the limit
comes from the training's own accepted past (median and MAD of log10 norms), and a finding needs harm beside
it: the loss leaves its own noise in the same tick and gives back what was learned, or the weights are being
overwritten rather than adjusted (update-to-weight ratio). Without a past, from the first ticks on, the overwriting
alone has to show, or the chain rule itself: gradients that grow by decades over the depth (or through time) of a
network whose signal grows with them, or whose loss does not fall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from supervisor.diagnoses import blame, upset
from supervisor.diagnoses.depth import amplification, chain
from supervisor.diagnoses.past import Past
from supervisor.diagnoses.spikes import given_back, layer_limits, limit, loss_leapt, usual
from supervisor.records import Finding, Snapshot
from supervisor.registry import DETECTORS

POLLUTING: Final = 200.0  # times the usual: sqrt(1 - 0.999) of it, six times the usual, stays in Adam's second moment
IDLE: Final = 20  # ticks without progress that make an amplification harmful
STRAIGHT: Final = 0.6  # r squared of a growth over the depth, at least


@DETECTORS.register("exploding_gradients")
@dataclass(frozen=True)
class ExplodingGradients:
    """Spikes against the accepted past, and divergence from the first ticks on."""

    z: Annotated[float, Field(ge=3, le=20, description="robust sigmas of log10 norms above the median")] = 6.0
    ratio: Annotated[float, Field(ge=2, le=1000, description="at least this many times the median norm")] = 10.0
    history: Annotated[int, Field(ge=8, le=100, description="accepted ticks before spikes are judged")] = 20
    update_ratio: Annotated[float, Field(ge=0.1, le=10, description="update norm over weight norm of a layer")] = 0.5
    decades: Annotated[float, Field(ge=1, le=10, description="log10 of the growth over depth or time")] = 3.0
    max_norm: Annotated[float | None, Field(gt=0, description="an absolute limit on the norm instead")] = None

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding for a harmful spike, for layers being overwritten, or for a chain that amplifies."""
        if not now.finite:
            return None  # non_finite's
        if self.max_norm is not None:
            return self._absolute(now, past, self.max_norm)
        return self._spike(now, past) or self._overwriting(now, past) or self._amplifying(now, past)

    def _spike(self, now: Snapshot, past: Past) -> Finding | None:
        series = past.log_grad_norm
        if len(series) < self.history or not now.grad_norm > 0.0:
            return None
        loss_limit = max(past.loss.upper(self.z, 0.5 * abs(past.loss.centre)), given_back(past))
        if now.loss <= loss_limit or not loss_leapt(now, past) or not self._harmful(now, past, loss_limit):
            return None
        harm = {"loss": now.loss, "loss_limit": loss_limit, **usual(past), "window": len(series)}
        value, most = math.log10(now.grad_norm), limit(past, self.z, self.ratio)
        if value <= most:
            return self._layer_spike(now, past, harm)
        sigmas = (value - series.centre) / max(series.scale, 1e-6)
        evidence = {"value": now.grad_norm, "limit": 10.0**most, "sigmas": sigmas, **harm}
        severity = min(1.0, max(0.0, value - series.centre) / 6.0 + 0.3)
        where = _loudest(now)
        return _finding(now, where, severity, evidence, blame.of_spike(now, past, where))

    def _harmful(self, now: Snapshot, past: Past, loss_limit: float) -> bool:
        """Return whether the step would do harm, or harm is done already: the loss climbs on, or weights have leapt.

        An optimizer that divides by a second moment answers one wild gradient with a step little larger than usual. A
        very wild one does it harm all the same: its square stays in the moment, and steps are too small for long.
        """
        if not now.anatomy.adaptive or upset.coming_step(now, past) > self.update_ratio / 5.0:
            return True
        if now.grad_norm > POLLUTING * 10.0**past.log_grad_norm.centre:
            return True
        before = list(islice(reversed(past.losses), 3))
        climbing = min(before) > loss_limit and now.loss > 1.5 * max(before)
        return climbing or upset.weights_leapt(now, past)

    def _layer_spike(self, now: Snapshot, past: Past, harm: Mapping[str, Any]) -> Finding | None:
        """Judge each layer by its own past: a loud layer hides what a quiet one does."""
        limits = layer_limits(now, past, self.z, self.ratio)
        if limits is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.nan_to_num(np.log10(now.grad_norms.astype(np.float64)) - limits, nan=-1.0, posinf=-1.0)
        hit = above > 0.0
        if not hit.any():
            return None
        worst = int(np.argmax(above))
        figures = {"value": float(now.grad_norms[worst]), "limit": 10.0 ** float(limits[worst])}
        evidence = {**figures, "figure": "gradient norm of a layer", **harm}
        where = _names(now, hit)
        return _finding(now, where, 0.5, evidence, blame.of_spike(now, past, where))

    def _overwriting(self, now: Snapshot, past: Past) -> Finding | None:
        """Judge actual updates: layers rewritten in one step while the loss is above where it began."""
        if now.sample is None or not past.losses:
            return None
        noise = past.loss.scale if len(past.loss) >= self.history else 0.0  # before, it is the divergence itself
        if not now.loss > past.initial_loss + max(0.5 * abs(past.initial_loss), self.z * noise):
            return None
        ratios = np.nan_to_num(now.sample.update_ratios, nan=0.0)
        weighty = np.isin(np.arange(len(ratios)), chain(now))
        hit = weighty & (ratios > self.update_ratio)
        if not hit.any():
            return None
        evidence = {
            "value": float(ratios[hit].max()),
            "limit": self.update_ratio,
            "figure": "update norm / weight norm",
            **usual(past),
            "grad_norm": now.grad_norm,
            "loss": now.loss,
            "initial_loss": past.initial_loss,
        }
        where = _names(now, hit)
        return _finding(now, where, 0.9, evidence, blame.of_level(now, past, where))

    def _amplifying(self, now: Snapshot, past: Past) -> Finding | None:
        """Judge the chain rule: factors above one, layer by layer or step by step, from the first sample on."""
        first = past.samples[0] if past.samples else now
        if now.sample is None or first.tick > upset.FIRST or first.anatomy.layers != now.anatomy.layers:
            return None
        late = upset.decades_through_time(now)
        deep = upset.grown_over_depth(now, self.decades, STRAIGHT) and upset.grown_over_depth(first, self.decades)
        if not (deep or late >= self.decades):
            return None
        back, ahead, _ = upset.decades_over_depth(now)
        idle = past.stands(IDLE) and not past.level(IDLE) < 0.9 * past.initial_loss
        solved = past.level(IDLE) < 0.1 * past.initial_loss
        loud = upset.loudness_of_recurrence(now) >= self.decades - 1.0
        harmful = (deep and (idle or ahead >= self.decades - 1.0)) or (late >= self.decades and (idle or loud))
        if not harmful or solved:
            return None
        gained = back if deep else late
        evidence = {
            "value": gained,
            "limit": self.decades,
            "figure": f"decades of gradient gained {'over the depth' if deep else 'through time'}",
            "signal_decades": ahead,
            "amplification": amplification(now, chain(now)),
            **usual(past),
            "usual_max": now.grad_norm * 10.0**-gained,  # without the gain
        }
        where = _loudest(now)
        return _finding(now, where, min(1.0, gained / (2 * self.decades)), evidence, blame.of_level(now, past, where))

    def _absolute(self, now: Snapshot, past: Past, most: float) -> Finding | None:
        if now.grad_norm <= most:
            return None
        known = {**usual(past), "usual_max": most, "window": len(past.log_grad_norm)}
        evidence = {"value": now.grad_norm, "limit": most, **known}
        where = _loudest(now)
        return _finding(now, where, 0.7, evidence, blame.of_spike(now, past, where))


def _finding(
    now: Snapshot, where: tuple[str, ...], severity: float, evidence: Mapping[str, Any], blamed: Mapping[str, Any],
) -> Finding:  # fmt: skip
    return Finding("exploding_gradients", now.tick, now.step, where, severity, evidence=evidence, **blamed)


def _names(now: Snapshot, hit: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(layer.name for layer, bad in zip(now.anatomy.layers, hit, strict=True) if bad)


def _loudest(now: Snapshot) -> tuple[str, ...]:
    """Return up to three layers that carry most of the gradient."""
    order = np.argsort(now.grad_norms)[::-1][:3]
    return tuple(now.anatomy.layers[i].name for i in order if now.grad_norms[i] > 0.1 * now.grad_norm)
