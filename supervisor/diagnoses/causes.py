"""The root causes a finding may name, in the field's words, and how suspects are ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from supervisor.records import Cause

ACTIVATION: Final = "activation functions"
DEPTH: Final = "deep network"
INITIALIZATION: Final = "poor initialization"
NO_SKIPS: Final = "no skip connections"
LARGE_LR: Final = "large learning rate"
SMALL_LR: Final = "small learning rate"
DECAYED_LR: Final = "learning rate decayed to zero"
LARGE_WEIGHTS: Final = "large weights"
RECURRENCE: Final = "recurrent network"
NO_REGULARIZATION: Final = "no regularization"
BAD_BATCH: Final = "bad batch"
BAD_TARGET: Final = "bad target"
NEGATIVE_BIAS: Final = "large negative bias"
INPUT_SCALE: Final = "inputs out of scale"
SYMMETRY: Final = "symmetric units"
WEIGHT_DECAY: Final = "weight decay too strong"
MISMATCH: Final = "output and loss do not match"
NO_GRADIENT: Final = "gradients do not arrive"
LOSS_OVERFLOW: Final = "numerical overflow in the loss"
FORWARD_OVERFLOW: Final = "numerical overflow in the forward pass"
BACKWARD_OVERFLOW: Final = "numerical overflow in the backward pass"
BAD_PARAMETERS: Final = "non-finite parameters"
BAD_BUFFERS: Final = "non-finite buffers"
BAD_OPTIMIZER: Final = "non-finite optimizer state"
UNKNOWN: Final = "unknown"


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
