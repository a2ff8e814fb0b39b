"""The root causes that a finding may name and a policy may ask for, in the field's words."""

from __future__ import annotations

from typing import Final

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

CAUSES: Final = frozenset(
    {
        ACTIVATION,
        DEPTH,
        INITIALIZATION,
        NO_SKIPS,
        LARGE_LR,
        SMALL_LR,
        DECAYED_LR,
        LARGE_WEIGHTS,
        RECURRENCE,
        NO_REGULARIZATION,
        BAD_BATCH,
        BAD_TARGET,
        NEGATIVE_BIAS,
        INPUT_SCALE,
        SYMMETRY,
        WEIGHT_DECAY,
        MISMATCH,
        NO_GRADIENT,
        LOSS_OVERFLOW,
        FORWARD_OVERFLOW,
        BACKWARD_OVERFLOW,
        BAD_PARAMETERS,
        BAD_BUFFERS,
        BAD_OPTIMIZER,
        UNKNOWN,
    },
)
"""All of them."""
