"""What the figures of an examination amount to, in the words of the detectors.

An examination sees no course: harm (a loss that stands, a spike) cannot be told from it. What it can tell is absolute:
a decay over the depth, units silent on every batch, outputs at their ends, steps out of proportion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from supervisor.checklists.figures import LayerFigures
from supervisor.diagnoses import causes
from supervisor.records import Cause, Finding, Snapshot

DECADES: Final = 3.0  # over the depth
THROUGH_TIME: Final = (-6.0, 3.0)  # decades from the last step of time to the first
DEAD: Final = 0.2  # share of a layer's units
PINNED: Final = 0.5  # share of a layer's outputs
STEP: Final = (1e-7, 0.5)  # update over weights
CHAIN: Final = 4  # layers that a decay is fitted over
SMALL: Final = 0.5  # weights over what hands the signal on


@dataclass(frozen=True)
class Examined:
    """What is judged: plain numbers."""

    layers: Sequence[LayerFigures]
    snapshots: Sequence[Snapshot]
    squashing: int  # hidden activations that squash
    bound: float  # the product of their largest derivatives
    depth: int
    skips: bool
    alike: tuple[str, ...]  # layers whose units are all alike and stay so
    unreached: tuple[str, ...]  # layers that no gradient reaches
    negative: tuple[str, ...]  # layers with large negative biases
    rates: tuple[float, ...]  # learning rates
    warming: bool  # a scheduler is about to raise them


def findings_of(seen: Examined) -> Iterator[Finding]:
    """Yield what is wrong, the most urgent first."""
    yield from _non_finite(seen)
    yield from _depth(seen)
    yield from _time(seen)
    yield from _steps(seen)
    yield from _dead(seen)
    yield from _pinned(seen)
    yield from _standing(seen)


def _finding(
    pathology: str, where: Sequence[str], severity: float, suspects: Sequence[Cause], **evidence: Any,  # noqa: ANN401
) -> Finding:  # fmt: skip
    ranked = causes.first(causes.ranked(suspects))
    return Finding(pathology, 0, 0, tuple(where), min(1.0, severity), evidence=evidence, **ranked)


_ORIGINS: Final = {
    "batch": causes.BAD_BATCH,
    "parameters": causes.BAD_PARAMETERS,
    "gradients": causes.BACKWARD_OVERFLOW,
    "loss": causes.FORWARD_OVERFLOW,
}


def _non_finite(seen: Examined) -> Iterator[Finding]:
    bad = [now for now in seen.snapshots if not now.finite]
    if bad:
        hit = [layer.name for layer in bad[0].anatomy.layers]
        where = [name for name, norm in zip(hit, bad[0].grad_norms, strict=True) if not np.isfinite(norm)]
        suspect = causes.suspect(_ORIGINS.get(bad[0].origin, causes.FORWARD_OVERFLOW), 1.0, origin=bad[0].origin)
        yield _finding("non_finite", where, 1.0, [suspect], batches=len(bad), of=len(seen.snapshots), loss=bad[0].loss)


def _depth(seen: Examined) -> Iterator[Finding]:
    chain = [layer for layer in seen.layers if math.isfinite(layer.flow) and layer.flow > 0]
    if len(chain) < CHAIN:
        return
    decades, factor = decay([layer.flow for layer in chain])
    if abs(decades) < DECADES:
        return
    facts = {"decades": decades, "limit": DECADES, "factor_per_layer": factor, "layers": len(chain)}
    if decades < 0:
        early = [layer.name for layer in chain[: len(chain) // 2]]
        yield _finding("vanishing_gradients", early, -decades / 6, _why_vanishing(seen, -decades), **facts)
    else:
        scales = [layer.weight_scale for layer in chain if math.isfinite(layer.weight_scale)]
        large = causes.suspect(
            causes.LARGE_WEIGHTS, 0.5 * (max(scales, default=0.0) > 1.5), scale=max(scales, default=0.0)
        )
        start = causes.suspect(causes.INITIALIZATION, 0.4 * (max(scales, default=0.0) > 1.5))
        deep = causes.suspect(causes.DEPTH, 0.3 * (seen.depth > 10), depth=seen.depth)
        yield _finding("exploding_gradients", [chain[0].name], decades / 6, [large, start, deep], **facts)


def chance(share: float, count: int) -> float:
    """Return what chance may add to a share of `count` units: three standard errors."""
    return 3 * math.sqrt(share * (1 - share) / max(1, count))


def decay(flow: Sequence[float]) -> tuple[float, float]:
    """Return the decades by which gradients grow from the last layer back to the first, and the factor a layer.

    Fitted over all layers, so that one of them does not decide. `flow` is positive, in the order of the forward pass.
    """
    slope = float(np.polyfit(np.arange(len(flow)), np.log10(flow), 1)[0])
    return -slope * (len(flow) - 1), 10**-slope


def _why_vanishing(seen: Examined, decades: float) -> list[Cause]:
    """Rank the root causes: the share of the decay that each explains."""
    squashed = -math.log10(max(seen.bound, 1e-30))
    scales = [
        layer.weight_scale for layer in seen.layers if math.isfinite(layer.weight_scale) and layer.weight_scale > 0
    ]
    shrunk = max(0.0, -sum(math.log10(scale) for scale in scales))
    return [
        causes.suspect(causes.ACTIVATION, max(squashed / decades, 0.3 * (seen.squashing > 0)), bound=seen.bound),
        causes.suspect(causes.INITIALIZATION, shrunk / decades, scale=min(scales, default=math.nan)),
        causes.suspect(causes.DEPTH, 0.5 * (seen.depth >= 10), depth=seen.depth),
        causes.suspect(causes.NO_SKIPS, 0.4 * (seen.depth >= 10 and not seen.skips), depth=seen.depth),
    ]


def _time(seen: Examined) -> Iterator[Finding]:
    low, high = THROUGH_TIME
    for layer in seen.layers:
        if not (math.isfinite(layer.through_time) and layer.through_time > 0):
            continue
        decades = math.log10(layer.through_time)
        suspect = causes.suspect(causes.RECURRENCE, 1.0, steps=layer.steps)
        facts = {"decades_through_time": decades, "steps": layer.steps}
        if decades < low:
            yield _finding("vanishing_gradients", [layer.name], -decades / 12, [suspect], **facts, limit=-low)
        elif decades > high:
            yield _finding("exploding_gradients", [layer.name], decades / 6, [suspect], **facts, limit=high)


def _steps(seen: Examined) -> Iterator[Finding]:
    small = {layer.name: layer.weight_scale for layer in seen.layers if layer.weight_scale < 1}  # an output, a branch
    steps = {layer.name: layer.update_ratio * small.get(layer.name, 1.0) for layer in seen.layers}
    large = {name: step for name, step in steps.items() if step > STEP[1]}
    if large:
        worst = max(large.values())
        suspect = causes.suspect(causes.LARGE_LR, 0.8, update_ratio=worst, lr=max(seen.rates, default=math.nan))
        yield _finding("unstable_training", list(large), worst / 2, [suspect], update_ratio=worst, limit=STEP[1])


def _dead(seen: Examined) -> Iterator[Finding]:
    dead = {layer.name: layer.silent for layer in seen.layers if layer.silent > DEAD + chance(DEAD, layer.units)}
    if dead:
        negative = [name for name in dead if name in seen.negative]
        suspects = [
            causes.suspect(causes.NEGATIVE_BIAS, 0.9 * bool(negative), layers=len(negative)),
            causes.suspect(causes.LARGE_LR, 0.5, lr=max(seen.rates, default=math.nan)),
            causes.suspect(causes.ACTIVATION, 0.3),
        ]
        worst = max(dead.values())
        yield _finding("dead_units", list(dead), worst, suspects, share=worst, limit=DEAD, batches=len(seen.snapshots))


def _pinned(seen: Examined) -> Iterator[Finding]:
    pinned = {layer.name: layer.saturated for layer in seen.layers if layer.saturated > PINNED}
    if pinned:
        scales = [layer.weight_scale for layer in seen.layers if layer.name in pinned]
        heavy = max((scale for scale in scales if math.isfinite(scale)), default=0.0)
        suspects = [
            causes.suspect(causes.LARGE_WEIGHTS, 0.9 * (heavy > 2), scale=heavy),
            causes.suspect(causes.INPUT_SCALE, 0.6 * (next(iter(pinned)) == seen.layers[0].name)),
            causes.suspect(causes.ACTIVATION, 0.4),
        ]
        worst = max(pinned.values())
        yield _finding("saturation", list(pinned), worst, suspects, share=worst, limit=PINNED)


def _standing(seen: Examined) -> Iterator[Finding]:
    """Yield why nothing would be learned: units that stay alike, no gradient, a step too small to be one."""
    moved = [layer for layer in seen.layers if layer.gradient > 0 and math.isfinite(layer.update_ratio)]
    ratios = [layer.update_ratio for layer in moved]
    mismatch = next((now.anatomy.mismatch for now in seen.snapshots if now.anatomy.mismatch), "")
    tiny = bool(ratios) and max(ratios) < STEP[0] and not seen.warming
    suspects = [
        causes.suspect(causes.SYMMETRY, 0.9 * bool(seen.alike), layers=len(seen.alike)),
        causes.suspect(causes.NO_GRADIENT, 0.8 * bool(seen.unreached), layers=len(seen.unreached)),
        causes.suspect(causes.SMALL_LR, 0.7 * tiny, update_ratio=max(ratios, default=math.nan)),
        causes.suspect(causes.MISMATCH, 0.6 * bool(mismatch), mismatch=mismatch),
    ]
    found = [suspect for suspect in suspects if suspect.weight > 0]
    if found:
        facts = {key: value for suspect in found for key, value in suspect.evidence.items()}
        yield _finding("plateau", [*seen.alike, *seen.unreached], 0.8, found, **facts)
