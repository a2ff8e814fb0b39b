"""Changes what a module's forward does by changing its class, as `torch.nn.utils.parametrize` does.

The module stays the same object with the same names, keys of the state_dict, hooks and parameters; new children are
added beside. Deep copies and pickles carry the change. What was done can be taken back and done again, with the very
same objects both times, so that a state kept in between fits again.
"""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import torch
from torch import nn

from supervisor.errors import RemedyRefused

_ALTERATIONS: Final = "_supervisor_alterations"
_CLASSES: Final[dict[type[nn.Module], type[nn.Module]]] = {}
_WITNESSES: Final[list[set[object]]] = []


class Alteration(Protocol):
    """One change of one module's forward. Plain data: it is copied and pickled with the module."""

    def around(self, module: nn.Module, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Call `forward` (what the module did before) with these arguments; return what the module returns now."""


class Step(Protocol):
    """One thing done to a model or its optimizer. `do` after `undo` brings back the same objects."""

    def do(self) -> None:
        """Do it, or raise RemedyRefused having changed nothing."""

    def undo(self) -> None:
        """Take it back."""


class Done:
    """Steps that are done. Calling it takes them back, the last one first; `redo` does them again."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)

    def __call__(self) -> None:
        """Take everything back."""
        for step in reversed(self.steps):
            step.undo()

    def redo(self) -> None:
        """Do everything again, after it was taken back."""
        for step in self.steps:
            step.do()


def perform(steps: Iterable[Step]) -> Done:
    """Do all steps or none: where one raises, those before it are taken back."""
    done: list[Step] = []
    try:
        for step in steps:
            step.do()
            done.append(step)
    except BaseException:
        Done(done)()
        raise
    return Done(done)


@dataclass(eq=False)
class Alter:
    """A step that lets `alteration` act around the forward of `module`, with new children of it."""

    module: nn.Module
    alteration: Alteration
    children: Mapping[str, nn.Module] = field(default_factory=dict)

    def do(self) -> None:
        """Change the class. Refused where forward is not the class's, or a name is taken."""
        module = self.module
        if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
            message = f"the forward of {type(module).__name__} is bound to the instance or compiled to TorchScript"
            raise RemedyRefused(message)
        for name in self.children:
            if hasattr(module, name):
                message = f"{type(module).__name__} has an attribute {name!r} already"
                raise RemedyRefused(message)
        if _ALTERATIONS not in vars(module):
            try:
                module.__class__ = _altered(type(module))
            except TypeError as error:
                message = f"the class of {type(module).__name__} cannot be changed: {error}"
                raise RemedyRefused(message) from error
        vars(module)[_ALTERATIONS] = (*alterations(module), self.alteration)
        for name, child in self.children.items():
            module.add_module(name, child)

    def undo(self) -> None:
        """Take it out again, wherever in the order of alterations it stands."""
        module = self.module
        for name in self.children:
            module._modules.pop(name, None)  # noqa: SLF001 - as nn.Module.__delattr__ does, for any class
        left = tuple(other for other in alterations(module) if other is not self.alteration)
        vars(module)[_ALTERATIONS] = left
        base = type(module).__bases__[0]
        if not left and type(module) is _CLASSES.get(base):  # else something has subclassed it since: leave that be
            module.__class__ = base
            del vars(module)[_ALTERATIONS]


def alterations(module: nn.Module) -> tuple[Alteration, ...]:
    """Return what acts around the forward of `module`, the innermost first."""
    found: tuple[Alteration, ...] = vars(module).get(_ALTERATIONS, ())
    return found


def free_name(module: nn.Module, wish: str) -> str:
    """Return `wish`, or it with a number, whichever is no attribute of `module` yet."""
    names = (wish, *(f"{wish}_{number}" for number in range(1, 1000)))
    return next(name for name in names if not hasattr(module, name))


@contextmanager
def witnessing() -> Iterator[set[object]]:
    """Collect what alterations say they did while the block runs: the proof that a change is visible."""
    seen: set[object] = set()
    _WITNESSES.append(seen)
    try:
        yield seen
    finally:
        _WITNESSES.remove(seen)


def witness(what: object) -> None:
    """Say that an alteration took part in a forward pass. Costs nothing where nobody asks."""
    for seen in _WITNESSES:
        seen.add(what)


def _altered(base: type[nn.Module]) -> type[nn.Module]:
    """Return the one subclass of `base` whose forward runs within the alterations its instance holds."""
    if base not in _CLASSES:
        methods = {"forward": _forward_of(base), "__reduce_ex__": _reduce_of(base)}
        _CLASSES[base] = type(f"Altered{base.__name__}", (base,), methods)
    return _CLASSES[base]


def _forward_of(base: type[nn.Module]) -> Callable[..., Any]:
    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the user's signature
        call = functools.partial(base.forward, self)
        for alteration in vars(self)[_ALTERATIONS]:
            call = functools.partial(alteration.around, self, call)
        return call(*args, **kwargs)

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
    cls = _altered(base)
    return cls.__new__(cls, *arguments)
