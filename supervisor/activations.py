"""The activation functions torch offers, under one name each, whichever way they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

_NAMES: Final = (
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "hardswish",
    "sigmoid",
    "tanh",
    "hardsigmoid",
    "hardtanh",
    "softsign",
    "rrelu",
    "prelu",
    "threshold",
)

FUNCTIONS: Final[dict[Any, str]] = {
    getattr(home, spelling): name
    for name in _NAMES
    for spelling in (name, f"{name}_")
    for home in (F, torch, Tensor)
    if hasattr(home, spelling)
}
"""Every callable that applies an activation, in-place variants included: its name."""

SILENT_AT_ZERO: Final = frozenset({"relu", "relu6", "threshold"})
"""Functions whose output is exactly zero, with a zero gradient, over a half line."""

SQUASHING: Final = frozenset({"sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign"})
"""Functions whose output is pinned at both ends."""

SLOPES: Final[dict[str, tuple[Callable[[Tensor], Tensor], float]]] = {
    "sigmoid": (lambda y: 4.0 * y * (1.0 - y), 4 * 0.01 * 0.99),
    "tanh": (lambda y: 1.0 - y * y, 1 - 0.99**2),
    "hardsigmoid": (lambda y: ((y > 0.0) & (y < 1.0)).float(), 0.5),
    "hardtanh": (lambda y: (y.abs() < 1.0).float(), 0.5),
    "softsign": (lambda y: (1.0 - y.abs()).square(), 0.01**2),
    "softmax": (lambda y: (1.0 - y.square().sum(-1)) * (y.shape[-1] / (y.shape[-1] - 1)), 0.02),
}
"""Of each squashing function: its derivative relative to the largest, from its output, and that at 1 % from an end.

A softmax is taken as a whole: 1 - sum p^2 is 0 where all weight lies in one place, and largest where it is even."""

SOFTMAXES: Final[frozenset[Any]] = frozenset({F.softmax, torch.softmax, Tensor.softmax})

MULTIPLICATIONS: Final[frozenset[Any]] = frozenset(
    {
        torch.mul,
        torch.multiply,
        Tensor.mul,
        Tensor.mul_,
        Tensor.multiply,
        Tensor.__mul__,
        Tensor.__rmul__,
        Tensor.__imul__,
    },
)

ADDITIONS: Final[frozenset[Any]] = frozenset(
    {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__},
)

ELEMENTWISE: Final[frozenset[Any]] = MULTIPLICATIONS | {
    *(torch.add, torch.sub, torch.div, torch.cat, torch.stack, torch.where, Tensor.add, Tensor.sub, Tensor.div),
    *(Tensor.add_, Tensor.sub_, Tensor.div_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.__sub__),
    *(Tensor.__rsub__, Tensor.__isub__, Tensor.__truediv__, Tensor.__rtruediv__, Tensor.__itruediv__),
}
"""Functions through which units keep their place: a parameter in one of them (a position, a scale) reads no unit."""

_MODULES: Final = tuple(
    getattr(nn, name)
    for name in [
        "ReLU",
        "ReLU6",
        "LeakyReLU",
        "ELU",
        "SELU",
        "CELU",
        "GELU",
        "SiLU",
        "Mish",
        "Softplus",
        "Hardswish",
        "Sigmoid",
        "Tanh",
        "Hardsigmoid",
        "Hardtanh",
        "Softsign",
        "RReLU",
        "PReLU",
        "Threshold",
    ]
)

_CLAMPS: Final[frozenset[Any]] = frozenset(
    {torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min, Tensor.clamp_}
)


def is_activation_module(module: nn.Module) -> bool:
    """Return whether `module` is one of torch's activation modules."""
    return isinstance(module, _MODULES)


def function_name(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the activation that a call applies, or None. `clamp(min=0)` is a ReLU."""
    name = FUNCTIONS.get(func)
    if name == "hardtanh" and kwargs.get("min_val", args[1] if len(args) > 1 else -1.0) == 0:
        return "relu6"  # nn.ReLU6 calls it so
    if name is not None:
        return name
    if func in _CLAMPS:
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        if high is None and not isinstance(low, Tensor) and low == 0:
            return "relu"
    return None
