"""Why units died: when they fell silent, and what their layer went through just before.

Units that a step killed saw a large one; units that were silent before the first step were built so; units that fell
silent at once though the steps were small had their biases or weights set from elsewhere; what faded away
over many small steps shows the weakness of an activation without a slope below zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from supervisor.diagnoses import causes
from supervisor.diagnoses.past import Past
from supervisor.records import Cause, Snapshot

BEFORE: Final = 30  # ticks before a death in which its cause is looked for
SUDDEN: Final = 0.5  # share of the silent units that fell silent between two samples
START: Final = 4  # ticks that count as the start: sampled one and all
SMALL_STEP: Final = 0.02  # update norm over weight norm: usual at the start of a healthy training
LARGE_STEP: Final = 0.2  # of a step that may kill units at once
LONG_INPUT: Final = 100.0  # norm of an input: as of 10,000 standardized features
LOUD: Final = 5.0  # root mean square of the first layer's output


def death_causes(now: Snapshot, past: Past, site: int, limit: float) -> tuple[Cause, ...]:
    """Return the ranked suspects for the silence of a share `limit` of the units at `site`, an index into the sites."""
    seen = [*(shot for shot in past.samples if shot.anatomy == now.anatomy), now]
    shares = np.array([shot.sample.silent[site, 0] for shot in seen if shot.sample is not None], np.float64)
    awake = np.flatnonzero(~(shares > 0.7 * limit))
    onset = min(int(awake[-1]) + 1, len(seen) - 1) if awake.size else 0
    scale = _out_of_scale(seen[0])
    if not awake.size:
        facts: dict[str, Any] = {"silent_since": seen[0].tick}
        return causes.ranked([*scale, *(causes.suspect(name, w, **facts) for name, w in _built(seen[0], site))])
    step = _largest_step(seen[: onset + 1], site)
    large = min(1.0, max(0.0, math.log(max(step, 1e-30) / SMALL_STEP) / math.log(LARGE_STEP / SMALL_STEP)))
    at_once = float(np.diff(shares[: onset + 1]).max(initial=0.0))  # the largest share that fell silent between samples
    facts = {"silent_since": seen[onset].tick, "at_once": at_once, "largest_step": step, "lr": now.lr}
    sudden = at_once > SUDDEN * limit or onset < 3
    own = (causes.NEGATIVE_BIAS, causes.ACTIVATION) if sudden else (causes.ACTIVATION, causes.NEGATIVE_BIAS)
    weights = (0.9 * large, 0.75 * (1.0 - large), 0.3 * (1.0 - large))
    named = zip((causes.LARGE_LR, *own), weights, strict=True)
    return causes.ranked([*scale, *(causes.suspect(name, weight, **facts) for name, weight in named)])


def _built(first: Snapshot, site: int) -> tuple[tuple[str, float], ...]:
    """Return the suspects of units that were never seen awake since the sample `first`."""
    if _blank(first, site):
        return (causes.INITIALIZATION, 0.9), (causes.SYMMETRY, 0.8)
    if first.tick <= START:
        return (causes.NEGATIVE_BIAS, 0.85), (causes.INITIALIZATION, 0.7)
    return (causes.LARGE_LR, 0.4), (causes.NEGATIVE_BIAS, 0.4)  # longer ago than is remembered


def _blank(first: Snapshot, site: int) -> bool:
    """Return whether the units' weights are all zero, or all alike."""
    producer = first.anatomy.sites[site].producer
    row = next((i for i, layer in enumerate(first.anatomy.layers) if layer.name == producer), None)
    return row is not None and first.sample is not None and bool(first.sample.spread[row] == 0.0)


def _largest_step(seen: Sequence[Snapshot], site: int) -> float:
    """Return the largest update ratio of the site's layer, or one before it, in the ticks up to the last of `seen`."""
    layers = [layer.name for layer in seen[-1].anatomy.layers]
    producer = seen[-1].anatomy.sites[site].producer
    rows = slice(layers.index(producer) + 1 if producer in layers else None)
    recent = [shot.sample for shot in seen if shot.sample is not None and shot.tick >= seen[-1].tick - BEFORE]
    ratios = np.array([sample.update_ratios[rows] for sample in recent], np.float64)
    return float(np.nan_to_num(ratios, nan=0.0, posinf=0.0).max(initial=0.0))


def _out_of_scale(first: Snapshot) -> list[Cause]:
    """Return the inputs as suspects where the first layer's output was loud from the start, and not for its weights.

    The mean square of an output is that of the weights times the squared length of the input, which follows from it.
    """
    rows = [i for i, layer in enumerate(first.anatomy.layers) if layer.kind in ("linear", "conv", "recurrent")]
    if first.sample is None or first.tick > START or not rows:
        return []
    signal, norm = float(first.sample.signal[rows[0]]), float(first.sample.weight_norms[rows[0]])
    length = signal * math.sqrt(first.anatomy.layers[rows[0]].size) / max(norm, 1e-30)
    if not (signal > LOUD and length > LONG_INPUT):
        return []
    return [causes.suspect(causes.INPUT_SCALE, 0.95, first_signal=signal, input_length=length)]
