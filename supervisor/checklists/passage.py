"""Questions to the first pass: whether signal and gradient get through."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from supervisor.activations import SILENT_AT_ZERO, SQUASHING
from supervisor.checklists.evidence import chance, decay
from supervisor.checklists.first_pass import FirstPass, arrives
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned
from supervisor.records import Sample, Site

DEAD: Final = 0.2  # share of the first layer's units that no input of the batch wakes
ASLEEP: Final = 0.75  # of a later layer's: what lies before them may wake them yet
PINNED: Final = 0.5  # share of a layer's outputs within 1 % of an end
DECADES: Final = 4.0  # between the gradients at the first and the last layer
FADED: Final = 1e-2  # what depends on the input, relative to the first layer

_FAILED: Final = "the first pass did not go through"
_INIT: Final = "supervisor.initialize_(model), normalization, or another activation."


def train_step(now: FirstPass) -> Answer:
    """Ask whether forward and backward run."""
    if now.error is None:
        return passed("forward and backward run")
    text = str(now.error).strip().splitlines()
    what = f"{type(now.error).__name__}: {text[0] if text else ''}".rstrip(": ")
    return warned(f"the first pass raised {what:.300}", "The items above tell what it was given.")


def gradients_arrive(now: FirstPass) -> Answer:
    """Ask whether every trainable weight gets a gradient."""
    if now.snapshot is None:
        return inapplicable(_FAILED)
    trainable = {name: p for name, p in now.parameters.items() if p.requires_grad}
    missing = [name for name, p in trainable.items() if now.gradients.get(id(p)) is None]
    matrices = {name: p for name, p in trainable.items() if p.ndim > 1 and name not in missing}
    zero = [name for name, p in matrices.items() if not arrives(now.gradients[id(p)])]
    if missing or (zero and not _gated(now)):
        none, nothing = f"{len(missing)} get none: {shown(missing)}", f"{len(zero)} get zeros: {shown(zero)}"
        reason = "; ".join(filter(None, [none if missing else "", nothing if zero else ""]))
        advice = "Are they used in the forward pass, and is nothing detached, dead or multiplied by zero behind them?"
        return warned(f"of {len(trainable)} trainable parameters {reason}", advice, [*missing, *zero])
    norm = f"norm of all gradients {now.snapshot.grad_norm:.3g}"
    behind = f"; {len(zero)} wait behind a gate that starts at zero" if zero else ""
    return passed(f"{len(trainable)} parameters get a gradient, {norm}{behind}", grad_norm=now.snapshot.grad_norm)


def _gated(now: FirstPass) -> bool:
    """Return whether a parameter starts at zero and has a gradient: it holds back what lies before it for a step."""
    pairs = [(p, now.gradients.get(id(p))) for name, p in now.parameters.items() if not name.endswith("bias")]
    return any(not bool(p.any()) and arrives(g) for p, g in pairs)


def gradient_decay(now: FirstPass) -> Answer:
    """Ask whether gradients reach the first layers at about the size they have at the last."""
    sample = now.snapshot.sample if now.snapshot is not None else None
    if sample is None:
        return inapplicable(_FAILED)
    layers = [layer.name for layer in now.anatomy.layers]
    flow = {name: float(sample.flow[layers.index(name)]) for name in now.matrices}
    flow = {name: value for name, value in flow.items() if math.isfinite(value) and value > 0}
    if len(flow) < 3:
        return inapplicable("fewer than three layers with a gradient")
    first, last = next(iter(flow)), list(flow)[-1]
    decades, factor = decay(list(flow.values()))
    figure = (
        f"from {last} to {first} gradients change {10**decades:.1e} times ({factor:.2g} a layer), limit 1e{DECADES:g}"
    )
    if abs(decades) > DECADES:
        kind = "vanish" if decades < 0 else "explode"
        return warned(f"{figure}: they {kind}", f"Initialization, skip connections: {_INIT}", [first], decades=decades)
    return passed(figure, decades=decades, factor=factor)


def signal(now: FirstPass) -> Answer:
    """Ask whether the last hidden layer still depends on the input."""
    moments = [(name, now.seen.moments[name]) for name in now.matrices if name in now.seen.moments]
    moments = [(name, m) for name, m in moments if math.isfinite(m.variation)]
    if len(moments) < 3 or moments[0][1].variation <= 0:
        return inapplicable("fewer than three layers to compare")
    (first, start), (last, end) = moments[0], moments[-2]
    ratio = end.variation / start.variation
    figure = f"what depends on the input: {start.variation:.2g} at {first}, {end.variation:.2g} at {last}"
    if ratio < FADED:
        reason = f"{figure}: all inputs look alike behind {ratio:.1g} of the signal, limit {FADED:g}"
        return warned(reason, f"Larger initial weights or normalization: {_INIT}", [last], ratio=ratio)
    if ratio > 1 / FADED:
        return warned(f"{figure}: it grows {ratio:.2g} times, limit {1 / FADED:g}", f"Smaller initial weights: {_INIT}")
    return passed(figure, ratio=ratio)


def dead_at_start(now: FirstPass) -> Answer:
    """Ask whether all units of rectifiers answer to some input."""
    sites, sample = _sites(now, SILENT_AT_ZERO)
    if not sites or sample is None:
        return inapplicable("no hidden ReLU was seen")
    shares = {site.producer or site.name: float(sample.silent[i, 0]) for i, site in sites}
    first = next(iter(shares))
    limits = dict.fromkeys(shares, ASLEEP) | {first: DEAD + chance(DEAD, sites[0][1].units)}
    wrong = {name: share for name, share in shares.items() if share > limits[name]}
    if wrong:
        what = shown(f"{name}: {share:.0%}, limit {limits[name]:.0%}" for name, share in wrong.items())
        reason = f"units that no input of the batch wakes ({what})"
        return warned(reason, "Zero biases, He initialization, or a leaky activation.", wrong, by_layer=wrong)
    return passed(f"at most {max(shares.values()):.1%} of a layer's units are silent on the batch", by_layer=shares)


def saturated_at_start(now: FirstPass) -> Answer:
    """Ask whether squashing functions start away from their ends."""
    sites, sample = _sites(now, SQUASHING | {"softmax"})
    shares = {site.producer or site.name: float(sample.pinned[i]) for i, site in sites} if sample is not None else {}
    shares = {name: share for name, share in shares.items() if not np.isnan(share)}
    if not shares:
        return inapplicable("no hidden sigmoid, tanh, gate or attention was seen")
    wrong = {name: share for name, share in shares.items() if share > PINNED}
    if wrong:
        what = shown(f"{name}: {share:.0%}" for name, share in wrong.items())
        reason = f"outputs within 1 % of an end, where no gradient passes ({what}), limit {PINNED:.0%}"
        return warned(reason, "Smaller initial weights, standardized inputs, or normalization.", wrong, by_layer=wrong)
    return passed(f"at most {max(shares.values()):.1%} of a layer's outputs are at an end", by_layer=shares)


def _sites(now: FirstPass, functions: frozenset[str]) -> tuple[list[tuple[int, Site]], Sample | None]:
    sample = now.snapshot.sample if now.snapshot is not None else None
    found = [(i, s) for i, s in enumerate(now.anatomy.sites) if s.hidden and s.function in functions]
    return found, sample
