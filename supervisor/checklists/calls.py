"""Listens to the calls of a forward pass: which loss was given which tensors, and what left each layer.

Entered inside the sensor's watch, whose tags tell the layer a tensor stems from.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor
from torch.overrides import TorchFunctionMode

from supervisor.activations import ELEMENTWISE, function_name
from supervisor.checklists.graph import made_by
from supervisor.signals.tags import LAYER, tensors_in

LOSSES: Final[Mapping[Any, str]] = {
    getattr(F, name): name
    for name in (
        *("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"),
        *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
    )
}
_NORMS: Final = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize"})


@dataclass(frozen=True)
class LossCall:
    """One call of a loss function of torch whose input carries a gradient."""

    function: str
    input: Tensor  # detached
    target: Tensor
    made_by: str  # what computed the input: "softmax", "linear" ...
    arguments: Mapping[str, Any]  # by name, input and target left out

    def mean(self) -> float:
        """Return the loss by mean, whatever reduction was used. NaN where it cannot be computed."""
        known = {k: v for k, v in self.arguments.items() if k not in ("size_average", "reduce", "reduction")}
        try:
            with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # the user's own call has warned already
                return float(getattr(F, self.function)(self.input, self.target, **known, reduction="mean"))
        except (RuntimeError, IndexError, ValueError, TypeError):
            return float("nan")


@dataclass(frozen=True)
class Moments:
    """What left a layer, behind its activation where there is one."""

    mean: float
    std: float
    variation: float  # std over the inputs of the batch, by unit, root mean square: 0 where the inputs do not matter


@dataclass
class Seen:
    """What was listened to."""

    losses: list[LossCall] = field(default_factory=list)
    normalizing: set[str] = field(default_factory=set)  # functions that normalize
    moments: dict[str, Moments] = field(default_factory=dict)  # by layer


class Listening(TorchFunctionMode):
    """Takes in every call of the forward pass, and changes none of them."""

    def __init__(self, owner_of: Mapping[int, str], convolutions: frozenset[str]) -> None:
        """`owner_of` maps id(parameter) to its layer; `convolutions` are the layers whose units are channels."""
        super().__init__()
        self.owner_of, self.convolutions, self.seen = owner_of, convolutions, Seen()

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns  # fmt: skip
        """Take in one call. A loss is noted before it runs: it may raise, and what it was given tells why."""
        given = kwargs or {}
        if func in LOSSES:
            self._loss(func, args, given)
        if (name := getattr(func, "__name__", "")) in _NORMS:
            self.seen.normalizing.add(name)
        out = func(*args, **given)
        if not torch.compiler.is_compiling():
            self._left(func, args, given, out)
        return out

    def _loss(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = dict(inspect.signature(func).bind(*args, **kwargs).arguments)
        given, target = bound.pop("input", None), bound.pop("target", None)
        if isinstance(given, Tensor) and isinstance(target, Tensor) and given.requires_grad:
            call = LossCall(LOSSES[func], given.detach(), target.detach(), made_by(given), bound)
            self.seen.losses.append(call)

    def _left(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:  # noqa: ANN401
        first = next(tensors_in((out,)), None)
        if first is None or not first.is_floating_point() or first.ndim < 2 or func in ELEMENTWISE:
            return
        owners = {self.owner_of[id(t)] for t in tensors_in((args, *kwargs.values())) if id(t) in self.owner_of}
        if not owners and function_name(func, args, kwargs) is not None:
            owners = {stem for stem in [getattr(first, LAYER, None)] if stem is not None}
        for layer in owners:
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - the watch must not see its own calls
                self.seen.moments[layer] = moments(first.detach(), channels=layer in self.convolutions)


def moments(out: Tensor, *, channels: bool) -> Moments:
    """Return the moments of a layer's output, (batch, units, ...) where `channels`, else (..., units)."""
    by_unit = out.float().transpose(1, -1) if channels and out.ndim > 2 else out.float()
    rows = by_unit.reshape(-1, by_unit.shape[-1])
    variation = rows.var(0, correction=0).mean().sqrt() if len(rows) else rows.new_zeros(())
    return Moments(float(rows.mean()), float(rows.std(correction=0)), float(variation))
