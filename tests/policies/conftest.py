"""A small vocabulary of stand-ins, so that the messages tested here do not change with every new detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from supervisor.policy.vocabulary import Vocabulary
from supervisor.registry import Registry


@dataclass(frozen=True)
class NonFinite:
    """Nothing to set."""


@dataclass(frozen=True)
class DeadUnits:
    """A share of the units is silent."""

    fraction: Annotated[float, Field(gt=0, le=1, description="share of a layer's units")] = 0.3
    window: Annotated[int, Field(ge=10, le=2000, description="ticks")] = 60


@dataclass(frozen=True)
class ExplodingGradients:
    """A spike."""

    max_norm: Annotated[float | None, Field(gt=0, description="an absolute limit")] = None


@dataclass(frozen=True)
class ClipNorm:
    """Clip."""

    max_norm: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"


@dataclass(frozen=True)
class LowerLr:
    """Lower the learning rate."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


@dataclass(frozen=True)
class SwapActivation:
    """Swap."""

    to: Literal["relu", "leaky_relu"] = "relu"


@dataclass(frozen=True)
class Stop:
    """Stop."""


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """Return three detectors and four remedies, in registries of their own."""
    detectors: Registry[Any] = Registry("detector", "supervisor.policy", "none")
    remedies: Registry[Any] = Registry("remedy", "supervisor.policy", "none")
    for name, cls in {
        "non_finite": NonFinite,
        "dead_units": DeadUnits,
        "exploding_gradients": ExplodingGradients,
    }.items():
        detectors.register(name)(cls)
    for name, cls in {
        "clip_norm": ClipNorm,
        "lower_lr": LowerLr,
        "swap_activation": SwapActivation,
        "stop": Stop,
    }.items():
        remedies.register(name)(cls)
    return Vocabulary(detectors, remedies)
