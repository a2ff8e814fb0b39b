"""Nested state (an optimizer's, a scheduler's, an EMA's) kept as copies.

Dicts, lists and tuples are walked; tensors become copies; numbers and strings are themselves; a parameter of the run
stays the very object it is; a module, an optimizer or a function is no state and stays what it is, too; anything else
is deep-copied.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.checkpoints.copies import Copies, Shelf

IMMUTABLE: Final = frozenset({type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size})
DICTS: Final = frozenset({dict, OrderedDict, defaultdict})
TENSORS: Final = frozenset({Tensor})


@dataclass(eq=False, slots=True)  # not frozen: that doubles what making one costs, and there are thousands
class Leaf:
    """A tensor that was copied: which of the copies, and where the tensor lay (None: where the copy lies)."""

    shelf: Shelf
    index: int
    place: torch.device | None = None

    @property
    def copy(self) -> Tensor:
        """The copy itself."""
        return self.shelf.tensors[self.index]

    def fresh(self) -> Tensor:
        """Return a tensor of its own with the kept values."""
        return self.copy.to(self.place, copy=True) if self.place is not None else self.copy.clone()


@dataclass(eq=False, slots=True)
class Row:
    """A dict that held nothing but tensors, as an optimizer's state of one parameter: their copies lie in a row.

    An optimizer has thousands of them: a leaf for each tensor would cost more than the copying.
    """

    shelf: Shelf
    first: int
    keys: tuple[Any, ...]

    def leaves(self) -> dict[Any, Leaf]:
        """Return the same as a dict of leaves."""
        return {key: Leaf(self.shelf, self.first + i) for i, key in enumerate(self.keys)}


@dataclass(frozen=True, eq=False, slots=True)
class Ref:
    """An object that is part of the training itself and no copy: a parameter, a module, a function."""

    to: Any


class Keeper:
    """Makes kept trees; `known` holds the ids of the run's parameters."""

    def __init__(self, copies: Copies, known: set[int]) -> None:
        self.copies, self.known = copies, known
        self._keys: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # the same few serve all parameters

    def keep(self, value: Any) -> Any:  # noqa: ANN401 - anything a state_dict may hold
        """Return the kept form of `value`."""
        kind = type(value)
        if kind in IMMUTABLE:
            return value
        if kind in DICTS:
            return self._dict(value)
        if kind in (list, tuple):
            return kind(map(self.keep, value))
        return self._leaf(value) if isinstance(value, Tensor) else self._other(value)

    def _other(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, (nn.Module, Optimizer)) or callable(value):
            return Ref(value)
        try:
            return copy.deepcopy(value)
        except Exception:  # noqa: BLE001 - a lock, a file, a handle: no state that could be put back
            return Ref(value)

    def keep_all(self, states: dict[Any, Any]) -> dict[Any, Any]:
        """Return the kept form of many states at once, as an optimizer has them: by what they belong to."""
        if {*map(type, states.values())} != {dict} or (first := self._row([*states.values()])) is None:
            return {key: self.keep(state) for key, state in states.items()}
        kept, shelf, interned = {}, self.copies.shelf, self._keys
        for key, state in states.items():
            keys = tuple(state)
            kept[key] = Row(shelf, first, interned.setdefault(keys, keys))
            first += len(keys)
        return kept

    def _row(self, states: list[dict[Any, Any]]) -> int | None:
        """Ask for copies of all tensors in `states`, if they hold nothing else; return the place of the first."""
        values = list(chain.from_iterable(map(dict.values, states)))
        if {*map(type, values)} != TENSORS or self.copies.place is not None:
            return None
        return self.copies.several(values) if self.known.isdisjoint(map(id, values)) else None

    def _dict(self, value: dict[Any, Any]) -> dict[Any, Any] | Row:
        if type(value) is dict and (first := self._row([value])) is not None:
            return Row(self.copies.shelf, first, tuple(value))
        kept = emptied(value)
        for key, item in value.items():
            kept[key] = self.keep(item)
        return kept

    def _leaf(self, tensor: Tensor) -> Leaf | Ref:
        if id(tensor) in self.known:
            return Ref(tensor)
        copies = self.copies
        return Leaf(copies.shelf, copies(tensor), tensor.device if copies.place is not None else None)


def emptied(like: dict[Any, Any]) -> dict[Any, Any]:
    """Return an empty dict of the same type; a defaultdict keeps its factory."""
    if type(like) is dict:
        return {}
    empty = like.copy()
    empty.clear()
    return empty
