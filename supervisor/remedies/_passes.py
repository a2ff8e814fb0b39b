"""What one pass of a batch through the model shows, as facts: calls of modules and what became of their outputs."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from supervisor.remedies._fresh import NORMS


@dataclass(eq=False)
class Call:
    """One call of a module of the model."""

    number: int
    path: str
    module: nn.Module
    above: tuple[Call, ...]  # the calls it was made within, the outermost first
    inputs: tuple[Tensor, ...]  # positional ones
    versions: tuple[int, ...]  # of the inputs, as they were given
    given: int = 0  # whose output the first input was
    output: Any = None
    weighted: bool = False  # matrices or kernels were used in it
    clean: bool = False  # its input reaches its output only through weights, and is not written into

    @property
    def bit(self) -> int:
        """Its place in the masks."""
        return 1 << self.number

    @property
    def norm(self) -> bool:
        """Whether the module normalizes: torch's own, and what others call so (a hand-written RMSNorm)."""
        return isinstance(self.module, NORMS) or ("norm" in type(self.module).__name__.lower() and not self.weighted)


@dataclass(eq=False)
class Applied:
    """One call of an activation function."""

    function: str
    within: tuple[Call, ...]  # the calls that were running, the outermost first
    left: int  # whose output it was given
    direct: bool  # as it was: nothing in between but normalization
    shape: torch.Size


@dataclass(eq=False)
class Trace:
    """What one pass showed. The masks hold bits of calls."""

    calls: list[Call] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    read: int = 0  # whose output a later layer with weights reads
    bypassed: int = 0  # around which there is a way: a skip connection, or another branch
    ends: int = 0  # whose output is what is added to such a way
    gated: int = 0  # whose output is multiplied with another computed tensor
    normed: int = 0  # whose output is normalized before the next weights
    after_norm: int = 0  # whose input is the output of a normalization, as it is
    recurrent: set[int] = field(default_factory=set)  # id(parameter) that is applied to what it has helped to make
    uses: dict[tuple[int, int], int] = field(default_factory=dict)  # (id(parameter), outermost call): how often

    def of(self, path: str) -> list[Call]:
        """Return the calls of the module at `path`."""
        return [call for call in self.calls if call.path == path]

    def repeated(self, parameter: Tensor) -> bool:
        """Whether `parameter` is used more than once within one pass: through time or through depth."""
        return any(times > 1 for (identity, _), times in self.uses.items() if identity == id(parameter))


@dataclass(frozen=True, slots=True)
class Trail:
    """Where a tensor comes from, as bits by number of call."""

    past: int = 0  # calls whose weights it went through
    entered: int = 0  # calls whose input it is, no weights in between
    left: int = 0  # calls whose output it is, no weights in between
    raw: int = 0  # as `left`, and no activation in between either
    origin: int = 0  # what was fed into the outermost modules

    def __or__(self, other: Trail) -> Trail:
        """Return both trails in one."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Trail(*(one | two for one, two in pairs))


def joined(trails: Iterable[Trail]) -> Trail:
    """Return the trail of what is computed from tensors with these `trails`."""
    return functools.reduce(operator.or_, trails, Trail())


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among `values`, also those in lists and mappings."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
