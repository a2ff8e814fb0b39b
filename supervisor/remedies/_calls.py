"""Replaces chosen activation calls (`torch.sigmoid(x)`, `F.relu(x)`, `x.tanh_()`) in one module's forward.

The module's class becomes a subclass whose forward runs under a TorchFunctionMode, as torch's parametrizations
change classes: names, keys of the state_dict, hooks and parameters stay. Deep copies and pickles carry the swap.

A call belongs to the module whose forward runs innermost: the mode compares the nearest `Module.__call__` on the
Python stack with the one it was entered under, so that children (an `nn.ReLU` calls `F.relu` too) are left alone.
Limits: a method other than `forward` that is called from outside, and a part of `forward` recomputed later by
activation checkpointing, run without the swap. Under `torch.compile` modes do not see `F.sigmoid`, `F.tanh` and
`torch.sigmoid_` (they do see `torch.sigmoid`, `x.sigmoid()`, `F.relu`), and children with activations of their own
break the graph. Cost: about 1.4 microseconds an operation in that forward.
"""

from __future__ import annotations

import copyreg
import functools
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
from supervisor.errors import RemedyRefused

FUNCTIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
}
_IN_PLACE: Final = frozenset({Tensor.clamp_, *(f for f in SPELLINGS if f.__name__.endswith("_"))})
_SWAPS: Final = "_activation_swaps"
_CLASSES: Final[dict[type[nn.Module], type[nn.Module]]] = {}
_CALL: Final = nn.Module._call_impl.__code__  # noqa: SLF001 - the one frame every module call passes through


@dataclass(frozen=True)
class Swap:
    """Which calls of `function` in one forward become calls of `to`; later swaps count what earlier ones left."""

    function: str
    calls: tuple[int, ...]  # 0 is the first in each forward
    to: str


def swap_calls(module: nn.Module, swap: Swap) -> Callable[[], None]:
    """Let `module` call `swap.to` instead; return what takes it back. Refused where the class cannot change."""
    if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
        message = f"the forward of {type(module).__name__} is bound to the instance or compiled to TorchScript"
        raise RemedyRefused(message)
    if _SWAPS not in vars(module):
        try:
            module.__class__ = _swapping(type(module))
        except TypeError as error:
            message = f"the class of {type(module).__name__} cannot be changed: {error}"
            raise RemedyRefused(message) from error
    vars(module)[_SWAPS] = (*vars(module).get(_SWAPS, ()), swap)
    return functools.partial(_take_back, module, swap)


def _take_back(module: nn.Module, swap: Swap) -> None:
    left = tuple(other for other in vars(module).get(_SWAPS, ()) if other is not swap)
    vars(module)[_SWAPS] = left
    base = type(module).__bases__[0]
    if not left and type(module) is _swapping(base):  # else something has subclassed it since: leave that be
        module.__class__ = base
        del vars(module)[_SWAPS]


def _swapping(base: type[nn.Module]) -> type[nn.Module]:
    """Return the one subclass of `base` that applies the swaps its instance holds."""
    if base not in _CLASSES:
        methods = {"forward": _forward_of(base), "__reduce_ex__": _reduce_of(base)}
        _CLASSES[base] = type(f"Swapped{base.__name__}", (base,), methods)
    return _CLASSES[base]


def _forward_of(base: type[nn.Module]) -> Callable[..., Any]:
    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the user's signature
        caller = None if torch.compiler.is_compiling() and _alone(self) else _running()
        with _Swapping(vars(self)[_SWAPS], caller):
            return base.forward(self, *args, **kwargs)

    return forward


def _reduce_of(base: type[nn.Module]) -> Callable[..., Any]:
    def reduce(self: nn.Module, protocol: Any) -> Any:  # noqa: ANN401 - as object.__reduce_ex__ has it
        reduced: Any = base.__reduce_ex__(self, protocol)
        make, arguments, *rest = reduced
        if make is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return (make, arguments, *rest)
        return (_revive, (base, *arguments[1:]), *rest)  # this class has no importable name, its base has

    return reduce


def _revive(base: type[nn.Module], *arguments: Any) -> nn.Module:  # noqa: ANN401 - as pickled
    cls = _swapping(base)
    return cls.__new__(cls, *arguments)


class _Swapping(TorchFunctionMode):
    """Swaps the calls made directly under the frame `caller`; None: any call (where no child makes one)."""

    def __init__(self, swaps: tuple[Swap, ...], caller: FrameType | None) -> None:
        super().__init__()
        self.swaps, self.caller = swaps, caller
        self.counts = [0] * len(swaps)

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns  # fmt: skip
        kwargs = kwargs or {}
        name = function_name(func, args, kwargs)
        if name is None or not _counted(args, kwargs) or (self.caller is not None and _running() is not self.caller):
            return func(*args, **kwargs)
        to = self._swapped(name)
        if to == name or kwargs.get("out") is not None:
            return func(*args, **kwargs)
        source = args[0] if args else kwargs["input"]
        if _in_place(func, args, kwargs):
            return source.copy_(FUNCTIONS[to](source.clone()))  # the caller may go on with `source` itself
        return FUNCTIONS[to](source)

    def _swapped(self, name: str) -> str:
        for index, swap in enumerate(self.swaps):
            if swap.function == name:
                self.counts[index] += 1
                if self.counts[index] - 1 in swap.calls:
                    name = swap.to
        return name


def _running() -> FrameType | None:
    """Return the stack frame of the innermost module call."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the only way to see the stack without a cost elsewhere
    while frame is not None and frame.f_code is not _CALL:
        frame = frame.f_back
    return frame


def _alone(module: nn.Module) -> bool:
    """Whether no module below can call an activation: torch's own layers that are none, and no others."""
    below: Iterable[nn.Module] = (child for child in module.modules() if child is not module)
    return all(type(m).__module__.startswith("torch.nn.modules.") and not is_activation_module(m) for m in below)


def _counted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the sites of the anatomy count this call: batches of floats, not single numbers or vectors."""
    source = args[0] if args else kwargs.get("input")
    return isinstance(source, Tensor) and source.is_floating_point() and source.ndim > 1


def _in_place(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return func in _IN_PLACE or kwargs.get("inplace") is True or any(argument is True for argument in args[1:])
