"""Replaces chosen activation calls (`torch.sigmoid(x)`, `F.relu(x)`, `x.tanh_()`) in one module's forward.

The forward runs under a TorchFunctionMode. A call belongs to the module whose forward runs innermost: the mode
compares the nearest `Module.__call__` on the Python stack with the one it was entered under, so that children (an
`nn.ReLU` calls `F.relu` too) are left alone.
Limits: a method other than `forward` that is called from outside, and a part of `forward` recomputed later by
activation checkpointing, run without the swap. Under `torch.compile` modes do not see `F.sigmoid`, `F.tanh` and
`torch.sigmoid_` (they do see `torch.sigmoid`, `x.sigmoid()`, `F.relu`), and children with activations of their own
break the graph. Cost: about 1.4 microseconds an operation in that forward.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from supervisor.activations import FUNCTIONS as SPELLINGS
from supervisor.activations import function_name, is_activation_module
from supervisor.remedies._wrapping import Alter, perform, witness

FUNCTIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
}
"""What a swap may put in: functions of the input alone. "prelu" needs a slope, which `Swap.slopes` names."""

_IN_PLACE: Final = frozenset({Tensor.clamp_, *(f for f in SPELLINGS if f.__name__.endswith("_"))})
_CALL: Final = nn.Module._call_impl.__code__  # noqa: SLF001 - the one frame every module call passes through


@dataclass(frozen=True, eq=False)
class Swap:
    """Which calls of `function` in one forward become calls of `to`; later swaps count what earlier ones left."""

    function: str
    calls: tuple[int, ...]  # 0 is the first in each forward
    to: str
    slopes: tuple[str, ...] = ()  # for "prelu": the child of the module whose slope each of `calls` uses

    def around(self, module: nn.Module, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run `forward` with the calls swapped."""
        caller = None if torch.compiler.is_compiling() and _alone(module, self.slopes) else running()
        with _Swapping(self, module, caller):
            return forward(*args, **kwargs)

    def replacement(self, module: nn.Module, call: int) -> Callable[[Tensor], Tensor]:
        """Return what is called instead of the `call`-th call."""
        if self.to != "prelu":
            return FUNCTIONS[self.to]
        slope = module.get_parameter(f"{self.slopes[self.calls.index(call)]}.weight")
        return lambda source: F.prelu(source, slope)


def swap_calls(module: nn.Module, swap: Swap) -> Callable[[], None]:
    """Let `module` call `swap.to` instead; return what takes it back. Refused where the class cannot change."""
    return perform([Alter(module, swap)])


class _Swapping(TorchFunctionMode):
    """Swaps the calls made directly under the frame `caller`; None: any call (where no child makes one)."""

    def __init__(self, swap: Swap, module: nn.Module, caller: FrameType | None) -> None:
        super().__init__()
        self.swap, self.module, self.caller, self.count = swap, module, caller, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns  # fmt: skip
        kwargs = kwargs or {}
        if not self._meant(func, args, kwargs):
            return func(*args, **kwargs)
        call, self.count = self.count, self.count + 1
        if call not in self.swap.calls or self.swap.to == self.swap.function or kwargs.get("out") is not None:
            return func(*args, **kwargs)
        if not torch.compiler.is_compiling():
            witness((self.swap, call))
        source, apply = args[0] if args else kwargs["input"], self.swap.replacement(self.module, call)
        if _in_place(func, args, kwargs):
            return source.copy_(apply(source.clone()))  # the caller may go on with `source` itself
        return apply(source)

    def _meant(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this is one of the calls that are counted."""
        if function_name(func, args, kwargs) != self.swap.function or not _counted(args, kwargs):
            return False
        return self.caller is None or running() is self.caller


def running() -> FrameType | None:
    """Return the stack frame of the innermost module call."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the only way to see the stack without a cost elsewhere
    while frame is not None and frame.f_code is not _CALL:
        frame = frame.f_back
    return frame


def _alone(module: nn.Module, slopes: Iterable[str]) -> bool:
    """Whether no module below can call an activation: torch's own layers that are none, and no others."""
    apart = (module, *map(module.get_submodule, slopes))  # what holds a slope is never called
    below = (child for child in module.modules() if child not in apart)
    return all(type(m).__module__.startswith("torch.nn.modules.") and not is_activation_module(m) for m in below)


def _counted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the sites of the anatomy count this call: batches of floats, not single numbers or vectors."""
    source = args[0] if args else kwargs.get("input")
    return isinstance(source, Tensor) and source.is_floating_point() and source.ndim > 1


def _in_place(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return func in _IN_PLACE or kwargs.get("inplace") is True or any(argument is True for argument in args[1:])
