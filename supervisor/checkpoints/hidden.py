"""What a train step changes besides the state that a checkpoint holds: its variables, attributes and generators.

No promise to find everything: what is looked at are the variables and globals that the function names, its defaults
and attributes, the attributes of the object it belongs to or closes over, and those of the model's modules.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.checkpoints.rng import generator_state

MOST: Final = 500  # values looked at
_DEEP: Final = 3  # objects inside objects
_LIBRARIES: Final = frozenset({"torch", "numpy", "inspect", "typing", "logging", "supervisor"})
_PLAIN: Final = (bool, int, float, complex, str)


def fingerprint(value: Any) -> str:  # noqa: ANN401 - anything a state holds
    """Return what is the same for two values exactly if they are bit-identical."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} {hashlib.blake2b(_bytes(value), digest_size=16).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(fingerprint, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{key!r}: {fingerprint(item)}' for key, item in value.items())})"
    return repr(value)


def _bytes(tensor: Tensor) -> bytes:
    tensor = tensor.detach()
    tensor = (tensor if tensor.layout is torch.strided else tensor.to_dense()).cpu()
    tensor = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    data: bytes = tensor.resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return data


def hidden_state(train_fn: Callable[..., Any], model: nn.Module) -> dict[str, str]:
    """Return {what a person would call it: fingerprint} of all that is found."""
    found: dict[str, str] = {}
    seen: set[int] = {id(model), *map(id, model.parameters()), *map(id, model.buffers())}
    for path, module in model.named_modules():
        seen |= {id(value) for value in (module._parameters, module._buffers, module._modules)}  # noqa: SLF001
        for name, value in vars(module).items():
            if not name.startswith("_") and name != "training":
                _look(value, f"model.{path}.{name}" if path else f"model.{name}", found, seen, 1)
    for name, value in _held(train_fn):
        _look(value, name, found, seen, 0)
    return found


def _held(function: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any callable
    """Yield (name, value) of what a callable holds on to."""
    if isinstance(function, functools.partial):
        yield from ((f"argument {i} of the partial", value) for i, value in enumerate(function.args))
        yield from function.keywords.items()
        yield from _held(function.func)
        return
    owner = getattr(function, "__self__", None if inspect.isroutine(function) else function)
    if owner is not None and not inspect.ismodule(owner):
        yield "self", owner
    plain = inspect.unwrap(getattr(function, "__func__", function))
    if inspect.isfunction(plain):
        variables = inspect.getclosurevars(plain)
        yield from variables.nonlocals.items()
        yield from variables.globals.items()
        yield from vars(plain).items()
        yield from ((f"default {i}", value) for i, value in enumerate(plain.__defaults__ or ()))


def _look(value: Any, name: str, found: dict[str, str], seen: set[int], depth: int) -> None:  # noqa: ANN401
    """Note `value`, or what is in it."""
    if len(found) >= MOST:
        return
    if isinstance(value, _PLAIN):
        found[f"{name} ({type(value).__name__})"] = repr(value)
        return
    if id(value) in seen or isinstance(value, (nn.Module, nn.Parameter, Optimizer, type)) or inspect.ismodule(value):
        return
    seen.add(id(value))
    state = generator_state(value)
    if state is not None or isinstance(value, (Tensor, np.ndarray)):
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        found[f"{name} ({kind})"] = fingerprint(value if state is None else state)
    elif depth < _DEEP and _users(value):
        for inner, item in _inside(value):
            _look(item, f"{name}{inner}", found, seen, depth + 1)


def _users(value: Any) -> bool:  # noqa: ANN401
    """Return whether `value` may hold state of the user's: what a library defines does not change by a step."""
    home = getattr(value if inspect.isroutine(value) else type(value), "__module__", None) or ""
    return home.partition(".")[0] not in _LIBRARIES


def _inside(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in list(value.items()))
    elif isinstance(value, (list, tuple)):
        yield ".length", len(value)
        yield from ((f"[{index}]", item) for index, item in enumerate(value[:20]))
    elif inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, functools.partial):
        yield from ((f": {name}", item) for name, item in _held(value))
    elif hasattr(value, "__dict__"):
        yield from ((f".{name}", item) for name, item in list(vars(value).items()))
