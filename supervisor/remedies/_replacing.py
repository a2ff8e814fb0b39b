"""Replaces one activation module by another, wherever in the model it hangs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import nn

from supervisor.activations import is_activation_module
from supervisor.errors import RemedyRefused

MODULES: Final[dict[str, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,  # one slope for all units, from 0.25 (He et al., 2015)
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
}
_NOT_IN_PLACE: Final = frozenset({"prelu", "gelu"})


def at(model: nn.Module, path: str) -> nn.Module:
    """Return the module at `path` ("" is the model itself). Refused where there is none."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        message = f"the model has no module {path!r}"
        raise RemedyRefused(message) from None


def prelu(model: nn.Module) -> nn.PReLU:
    """Return a new PReLU on the device and of the type of `model`."""
    weight = next(model.parameters(), None)
    return nn.PReLU() if weight is None else nn.PReLU(device=weight.device, dtype=weight.dtype)


@dataclass(eq=False)
class Replace:
    """Another activation hangs wherever the module at `path` hung, with its hooks and in its mode."""

    model: nn.Module
    path: str
    to: str
    new: nn.Module | None = None
    old: nn.Module | None = None
    holders: tuple[tuple[nn.Module, str], ...] = ()

    def do(self) -> None:
        """Hang the new one in. Refused where there is no activation module at `path`."""
        old = at(self.model, self.path)
        if old is self.model or not is_activation_module(old):
            place = self.path or "the model itself"
            message = f"{place} is {type(old).__name__}, not an activation module inside the model"
            raise RemedyRefused(message)
        self.old, new = old, self.new or _made(self.model, old, self.to)
        self.new = new.train(old.training)
        vars(new).update({key: value for key, value in vars(old).items() if "hooks" in key})
        self.holders = tuple((m, n) for m in self.model.modules() for n, c in m._modules.items() if c is old)  # noqa: SLF001
        for holder, name in self.holders:
            holder._modules[name] = new  # noqa: SLF001 - as nn.Module.__setattr__ does, for any name

    def undo(self) -> None:
        """Hang the old one back where the new one still hangs."""
        assert self.old is not None
        assert self.new is not None
        for holder, name in self.holders:
            if holder._modules.get(name) is self.new:  # noqa: SLF001
                holder._modules[name] = self.old  # noqa: SLF001
        self.old.train(self.new.training)


def _made(model: nn.Module, old: nn.Module, to: str) -> nn.Module:
    """Return the new activation module: in place where the old one was, on the model's device."""
    if to == "prelu":
        return prelu(model)
    in_place = to not in _NOT_IN_PLACE and getattr(old, "inplace", False) is True
    return MODULES[to](inplace=True) if in_place else MODULES[to]()
