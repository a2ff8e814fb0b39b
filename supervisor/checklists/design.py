"""Questions to the architecture: activations in deep networks, skip connections, normalization."""

from __future__ import annotations

import math
from typing import Final

from supervisor.checklists.first_pass import FirstPass
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned

STEEPEST: Final = {"sigmoid": 0.25, "tanh": 1.0, "hardsigmoid": 1 / 6, "hardtanh": 1.0, "softsign": 1.0}
SIGMOIDS: Final = 3  # hidden layers: 0.25^3 of the gradient is left at best
TANHS: Final = 5  # hidden layers
PLAIN: Final = 10  # layers without a skip connection
UNNORMALIZED: Final = 6  # layers without normalization


def _depth(now: FirstPass) -> int:
    return now.depth.longest if now.depth is not None else len(now.matrices)


def _skips(now: FirstPass) -> bool:
    return now.depth.skips if now.depth is not None else now.anatomy.skips > 0


def activations(now: FirstPass) -> Answer:
    """Ask whether the activations let gradients through the depth there is."""
    sites = [site for site in now.anatomy.sites if site.hidden and not site.gate]
    if not sites:
        return inapplicable("no hidden activations were seen")
    names = dict.fromkeys(site.function for site in sites)
    flat = [s for s in sites if STEEPEST.get(s.function, 1.0) < 1.0]
    bent = [s for s in sites if s.function in STEEPEST]
    skipped = _skips(now) and now.anatomy.skips >= len(bent) // 2
    if (len(flat) > SIGMOIDS or len(bent) > TANHS) and not skipped:
        bound = math.prod(STEEPEST[s.function] for s in bent)
        squashing = shown(dict.fromkeys(s.function for s in bent))
        reason = f"{len(bent)} hidden layers squash ({squashing}): at best {bound:.2g} of the gradient passes"
        advice = "ReLU, GELU or another function that does not squash; sigmoid and tanh belong into gates and outputs."
        return warned(reason, advice, [s.producer or s.name for s in bent], bound=bound, layers=len(bent))
    return passed(f"{len(sites)} hidden activations: {shown(names)}")


def residuals(now: FirstPass) -> Answer:
    """Ask for skip connections beyond ten layers."""
    depth = _depth(now)
    if depth <= PLAIN:
        return inapplicable(f"{depth} layers deep; skip connections matter beyond {PLAIN}")
    shortest = now.depth.shortest if now.depth is not None else depth
    if _skips(now):
        return passed(f"{depth} layers deep, the shortest way through passes {shortest}", depth=depth)
    reason = f"{depth} layers deep without skip connections (the shortest way through passes {shortest})"
    return warned(reason, "Add residual connections: x + block(x).", depth=depth, limit=PLAIN)


def normalization(now: FirstPass) -> Answer:
    """Ask whether something is normalized in a deep network."""
    norms = [layer.name for layer in now.anatomy.layers if layer.kind == "norm"]
    functions = sorted({site.function for site in now.anatomy.sites})
    depth = _depth(now)
    if now.normalized:
        return passed(f"{len(norms)} normalization layers" if norms else f"by {shown(sorted(now.seen.normalizing))}")
    if functions == ["selu"]:
        return passed("SELU normalizes by itself")
    if depth > UNNORMALIZED:
        reason = f"{depth} layers deep and nothing is normalized, limit {UNNORMALIZED}"
        return warned(reason, "BatchNorm in convolutional nets, LayerNorm elsewhere.", depth=depth, limit=UNNORMALIZED)
    return inapplicable(f"{depth} layers deep; normalization matters beyond {UNNORMALIZED}")
