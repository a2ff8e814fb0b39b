"""How suspected root causes are ranked; their names are those of `supervisor.causes`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.causes import (
    ACTIVATION,
    BACKWARD_OVERFLOW,
    BAD_BATCH,
    BAD_BUFFERS,
    BAD_OPTIMIZER,
    BAD_PARAMETERS,
    BAD_TARGET,
    DECAYED_LR,
    DEPTH,
    FORWARD_OVERFLOW,
    INITIALIZATION,
    INPUT_SCALE,
    LARGE_LR,
    LARGE_WEIGHTS,
    LOSS_OVERFLOW,
    MISMATCH,
    NEGATIVE_BIAS,
    NO_GRADIENT,
    NO_REGULARIZATION,
    NO_SKIPS,
    RECURRENCE,
    SMALL_LR,
    SYMMETRY,
    UNKNOWN,
    WEIGHT_DECAY,
)
from supervisor.records import Cause

__all__ = [
    "ACTIVATION",
    "BACKWARD_OVERFLOW",
    "BAD_BATCH",
    "BAD_BUFFERS",
    "BAD_OPTIMIZER",
    "BAD_PARAMETERS",
    "BAD_TARGET",
    "DECAYED_LR",
    "DEPTH",
    "FORWARD_OVERFLOW",
    "INITIALIZATION",
    "INPUT_SCALE",
    "LARGE_LR",
    "LARGE_WEIGHTS",
    "LOSS_OVERFLOW",
    "MISMATCH",
    "NEGATIVE_BIAS",
    "NO_GRADIENT",
    "NO_REGULARIZATION",
    "NO_SKIPS",
    "RECURRENCE",
    "SMALL_LR",
    "SYMMETRY",
    "UNKNOWN",
    "WEIGHT_DECAY",
    "first",
    "ranked",
    "suspect",
]


def suspect(name: str, weight: float, **evidence: Any) -> Cause:  # noqa: ANN401 - plain figures and strings
    """Return a cause with its evidence; `weight` is clamped to 0..1, and NaN weighs nothing."""
    return Cause(name, min(1.0, max(0.0, weight)) if weight == weight else 0.0, evidence)  # noqa: PLR0124 - NaN


def ranked(suspects: Iterable[Cause]) -> tuple[Cause, ...]:
    """Return the suspects that anything speaks for, the likeliest first; equals keep their order. Never empty."""
    found = sorted((s for s in suspects if s.weight > 0.0), key=lambda s: -s.weight)
    return tuple(found) or (Cause(UNKNOWN, 0.0),)


def first(causes: tuple[Cause, ...]) -> Mapping[str, Any]:
    """Return the `cause` and `causes` of a finding, as keyword arguments."""
    return {"cause": causes[0].name, "causes": causes}
