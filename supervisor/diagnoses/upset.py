"""What speaks for each root cause of a training that blows up: figures of its steps, its weights and its course."""

from __future__ import annotations

import math
from itertools import islice
from typing import Final

import numpy as np

from supervisor.diagnoses import causes
from supervisor.diagnoses.depth import MULTIPLYING, chain, fit, log10, may_reach, through_time
from supervisor.diagnoses.past import Past
from supervisor.records import Cause, Snapshot

LATELY: Final = 50  # ticks before now that show which learning rate is usual
REWRITING: Final = 0.3  # update norm over weight norm: three such steps, and nothing is left of a layer
ANSWER: Final = 3.2  # (1 - 0.9) / sqrt(1 - 0.999)
FIRST: Final = 4  # the ticks that are sampled one and all
GROWN: Final = 1.5  # weight norms now over those of the first samples


def shown(now: Snapshot, past: Past) -> list[Snapshot]:
    """Return the sampled ticks of this very network, `now` among them if it is one."""
    shots = [shot for shot in past.samples if shot.anatomy.layers == now.anatomy.layers]
    return [*shots, now] if now.sample is not None else shots


def update_ratio(now: Snapshot, past: Past) -> float:
    """Return the largest update norm over weight norm of a layer in the last sample; NaN where unknown."""
    shots = shown(now, past)
    if not shots or shots[-1].sample is None:
        return math.nan
    ratios = [ratio for ratio in shots[-1].sample.update_ratios[chain(now)] if math.isfinite(ratio)]
    return float(max(ratios, default=math.nan))


def rate_rise(now: Snapshot, past: Past) -> float:
    """Return the learning rate of the last ticks over the usual one before; 1 where it did not rise."""
    earlier = [lr for lr in islice(reversed(past.lrs), 1, LATELY) if lr > 0.0]
    recent = max(now.lr, past.lrs[-1] if past.lrs else now.lr)
    usual = float(np.median(earlier)) if earlier else recent
    return max(1.0, recent / usual) if usual > 0.0 and math.isfinite(recent) else 1.0


def diverging(past: Past) -> bool:
    """Return whether the last finite losses had left both their usual level and where they began, upwards."""
    if len(past.losses) < 2:
        return False
    level = max(past.initial_loss, past.loss.centre)
    return past.losses[-1] > level + max(abs(level), 6.0 * past.loss.scale)


def large_rate(now: Snapshot, past: Past) -> Cause:
    """Return how far the steps are too large: a rate that rose, weights rewritten, a loss that was climbing."""
    ratio, rise, climbing = update_ratio(now, past), rate_rise(now, past), diverging(past)
    weight = max(
        0.9 if rise >= 2.0 else 0.0,
        0.85 if ratio >= REWRITING else 0.5 if ratio >= 0.1 else 0.0,
        0.75 if climbing else 0.2,
    )
    figures = {"update_ratio": ratio, "lr": now.lr, "lr_rise": rise, "loss_was_climbing": climbing}
    return causes.suspect(causes.LARGE_LR, weight, **figures)


def coming_step(now: Snapshot, past: Past) -> float:
    """Return the update ratio that an optimizer with a second moment will answer this gradient with; inf if unknown.

    Adam's step for a gradient k times the usual is at most (1 - b1) k / sqrt(1 + (1 - b2) k^2) of it: ANSWER times.
    """
    shots = shown(now, past)
    ratio, lr = update_ratio(now, past), shots[-1].lr if shots else 0.0
    return ratio * ANSWER * max(1.0, now.lr / lr) if lr > 0.0 and math.isfinite(ratio) else math.inf


def growth(now: Snapshot, past: Past) -> tuple[float, bool]:
    """Return the growth of the fastest layer's weight norm since the first samples, and whether it was steady."""
    shots, rows = shown(now, past), chain(now)
    norms = np.array([shot.sample.weight_norms[rows] for shot in shots if shot.sample is not None], np.float64)
    norms = norms[np.isfinite(norms).all(1) & (norms > 0.0).all(1)] if norms.size else norms
    if len(norms) < 2:
        return 1.0, False
    layer = int(np.argmax(norms[-1] / norms[0]))
    course = np.diff(norms[:, layer])
    return float(norms[-1, layer] / norms[0, layer]), len(course) >= 4 and float((course > 0.0).mean()) > 0.7


def weights(now: Snapshot, past: Past) -> list[Cause]:
    """Return what speaks for weights that are too large, from the start or grown, and for nothing that holds them."""
    grown, steadily = growth(now, past)
    back, ahead, late = _at_birth(now, past)
    decades = max(back, ahead, late)
    amplified = min(0.9, 0.35 + 0.25 * decades) if decades >= 1.0 else 0.0
    own = 0.7 if update_ratio(now, past) >= REWRITING else 0.88  # steps that rewrite have made them large
    large = 0.0 if grown < GROWN else min(own, 0.4 + 0.3 * math.log10(grown))
    large = 0.95 if weights_leapt(now, past) else large
    kinds = [layer.kind for layer in now.anatomy.layers]
    normed, layers = "norm" in kinds, sum(kind in MULTIPLYING for kind in kinds)
    bare = layers >= 8 and not normed and not now.anatomy.skips
    born = {"decades_backward": back, "decades_forward": ahead, "decades_through_time": late}
    held = {"growth": grown, "steady": steadily, "normalization": normed}
    free = steadily and grown >= GROWN and not normed
    return [
        causes.suspect(causes.INITIALIZATION, amplified, **born),
        causes.suspect(causes.LARGE_WEIGHTS, max(large, 0.9 * amplified), growth=grown, **born),
        causes.suspect(causes.DEPTH, 0.5 * amplified if bare else 0.0, layers=layers),
        causes.suspect(causes.NO_REGULARIZATION, 0.35 if free else 0.0, **held),
    ]


def weights_leapt(now: Snapshot, past: Past) -> bool:
    """Return whether the weights of a layer grew between the last two samples as no step of theirs can explain."""
    shots = shown(now, past)[-2:]
    if len(shots) < 2 or shots[0].sample is None or shots[1].sample is None:
        return False
    rows = chain(now)
    with np.errstate(all="ignore"):
        grown = (shots[1].sample.weight_norms / shots[0].sample.weight_norms)[rows]
        ratios = np.fmax(shots[0].sample.update_ratios, shots[1].sample.update_ratios)[rows]
        most = np.exp(4.0 * ratios * (shots[1].tick - shots[0].tick))  # of its own steps, with a wide margin
    rewriting = bool((ratios >= REWRITING).any()) or diverging(past)
    return not rewriting and bool((grown > np.fmax(2.0, most)).any())


def _at_birth(now: Snapshot, past: Past) -> tuple[float, float, float]:
    """Return the decades gained backward, forward and through time in the very first sample; 0 where it is gone."""
    shots = shown(now, past)
    if not shots or shots[0].tick > FIRST:
        return 0.0, 0.0, 0.0
    back, ahead, _ = decades_over_depth(shots[0])
    return back, ahead, decades_through_time(shots[0])


def decades_through_time(shot: Snapshot) -> float:
    """Return by how many decades gradients grow towards the early steps of a recurrent layer; 0 where there is none."""
    if shot.sample is None or not (shot.sample.time_steps > 1).any():
        return 0.0
    return max((-d.decades for i in chain(shot) if (d := through_time(shot, i)) is not None), default=0.0)


def loudness_of_recurrence(shot: Snapshot) -> float:
    """Return log10 of the loudest recurrent output: squashed states stay below 1, what grows in time does not."""
    rows = [i for i in chain(shot) if shot.anatomy.layers[i].kind == "recurrent"]
    return float(max(log10(shot.sample.signal[rows]), default=0.0)) if shot.sample is not None and rows else 0.0


def recurrence(now: Snapshot, past: Past, where: tuple[str, ...]) -> Cause:
    """Return what speaks for the product over time: a recurrent layer among the loudest, amplified step by step."""
    shots = shown(now, past)
    names = {layer.name: i for i, layer in enumerate(now.anatomy.layers)}
    loud = [name for name in where if now.anatomy.layers[names[name]].kind == "recurrent"]
    decades = decades_through_time(shots[-1]) if shots else 0.0
    weight = max(0.6 if loud else 0.0, min(0.82, 0.4 + 0.2 * decades) if decades >= 1.0 else 0.0)
    return causes.suspect(causes.RECURRENCE, weight, layers=loud, decades_through_time=decades)


def decades_over_depth(shot: Snapshot) -> tuple[float, float, float]:
    """Return by how many decades gradients grow towards the input, and signals towards the output, and the fit's r2.

    Taken at the layers' outputs and fitted over the depth: the loss's scale, widths and optimizers drop out.
    """
    rows = chain(shot)
    if shot.sample is None or len(rows) < 4:
        return 0.0, 0.0, 0.0
    back, ahead = fit(log10(shot.sample.flow[rows])), fit(log10(shot.sample.signal[rows]))
    return -back.decades if back else 0.0, ahead.decades if ahead else 0.0, back.r2 if back else 0.0


def grown_over_depth(shot: Snapshot, decades: float, straight: float = -math.inf) -> bool:
    """Return whether gradients grow by at least `decades` towards the input, with an r squared of `straight`."""
    flow = shot.sample.flow[chain(shot)] if shot.sample is not None else np.zeros(0)
    if not len(flow) or not may_reach(float(flow.min()), float(flow.max()), decades):
        return False
    back, _, r2 = decades_over_depth(shot)
    return back >= decades and r2 >= straight


def suspects(now: Snapshot, past: Past, where: tuple[str, ...]) -> list[Cause]:
    """Return what the steps, the weights and the recurrence of a training are suspected of, each cause once."""
    return [large_rate(now, past), *weights(now, past), recurrence(now, past, where)]
