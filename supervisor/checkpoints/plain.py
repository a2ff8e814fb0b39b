"""Kept trees as plain data and back: numbers, strings, lists, dicts and tensors, which is all that a file may hold.

`torch.load(weights_only=True)` runs no code from a file, so nothing else could be read back.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from supervisor.checkpoints.copies import Shelf
from supervisor.checkpoints.trees import IMMUTABLE, Leaf, Ref, Row

_KIND: Final = "\x00kind"  # a key that no state_dict has
_SETS: Final[dict[str, Any]] = {"set": set, "frozenset": frozenset, "deque": deque}


class Unstorable(Exception):  # noqa: N818 - not an error of the user's: it is left out, and said
    """A value that is no plain data."""


class Encoder:
    """Turns kept trees into plain data; `names` gives the parameters' names by their ids."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.left_out: list[str] = []  # where something was that cannot be stored

    def encode(self, kept: Any, path: str) -> Any:  # noqa: ANN401 - any tree
        """Return `kept` as plain data. What cannot be stored is left out of its dict, and noted."""
        if type(kept) in IMMUTABLE:
            return kept
        if isinstance(kept, Row):
            kept = kept.leaves()
        if isinstance(kept, dict):
            return self._dict(kept, path)
        if type(kept) in (list, tuple):
            return type(kept)(self.encode(value, path) for value in kept)
        return self._tagged(kept, path)

    def _dict(self, kept: dict[Any, Any], path: str) -> dict[str, Any]:
        items = []
        for key, value in kept.items():
            try:
                items.append((self.key(key), self.encode(value, f"{path}.{key}" if isinstance(key, str) else path)))
            except Unstorable as why:
                self.left_out.append(f"{path}.{key}: {why}" if isinstance(key, str) else f"{path}: {why}")
        return {_KIND: "dict", "items": items}

    def key(self, key: Any) -> Any:  # noqa: ANN401
        """Return a dict's key as plain data: a parameter by its name."""
        if type(key) in IMMUTABLE:
            return key
        if id(key) not in self.names:
            message = f"a key of type {type(key).__name__} is no plain data"
            raise Unstorable(message)
        return (_KIND, self.names[id(key)])

    def _tagged(self, kept: Any, path: str) -> dict[str, Any]:  # noqa: ANN401
        if isinstance(kept, Leaf):
            place = str(kept.place or kept.copy.device)
            return {_KIND: "tensor", "value": kept.copy, "place": place}
        if isinstance(kept, Tensor):
            return {_KIND: "own", "value": kept}
        if isinstance(kept, Ref) and id(kept.to) in self.names:
            return {_KIND: "parameter", "value": self.names[id(kept.to)]}
        if isinstance(kept, (np.ndarray, np.generic)) and kept.dtype.kind in "biufc":
            array = np.array(kept, copy=True, order="C")
            return {_KIND: "array" if isinstance(kept, np.ndarray) else "number", "value": torch.from_numpy(array)}
        if type(kept) in _SETS.values():
            more = {"maxlen": kept.maxlen} if isinstance(kept, deque) else {}
            return {_KIND: type(kept).__name__, "value": [self.encode(value, path) for value in kept], **more}
        message = f"{type(kept.to if isinstance(kept, Ref) else kept).__name__} is no plain data"
        raise Unstorable(message)


class Decoder:
    """Turns plain data into kept trees whose copies lie on `shelf`; `parameters` are those of the run, by name."""

    def __init__(self, shelf: Shelf, parameters: dict[str, Tensor], device: torch.device) -> None:
        self.shelf, self.parameters, self.device = shelf, parameters, device

    def decode(self, plain: Any) -> Any:  # noqa: ANN401 - any plain data
        """Return the kept tree. KeyError where it names a parameter that the run does not have."""
        if type(plain) in (list, tuple):
            return type(plain)(map(self.decode, plain))
        return self._tagged(plain) if isinstance(plain, dict) else plain

    def _tagged(self, plain: dict[str, Any]) -> Any:  # noqa: ANN401
        kind, value = plain[_KIND], plain.get("value")
        if kind == "dict":
            return {self._key(key): self.decode(item) for key, item in plain["items"]}
        if kind == "tensor":
            assert isinstance(value, Tensor)
            self.shelf.put([value])
            return Leaf(self.shelf, len(self.shelf.tensors) - 1, self.place(plain["place"]))
        if kind == "parameter":
            return Ref(self.parameters[str(value)])
        if kind in ("array", "number"):
            assert isinstance(value, Tensor)
            array = value.numpy().copy()
            return array if kind == "array" else array[()]
        if kind in _SETS:
            more = {"maxlen": plain["maxlen"]} if kind == "deque" else {}
            return _SETS[kind](map(self.decode, value or ()), **more)
        return value

    def _key(self, key: Any) -> Any:  # noqa: ANN401
        return self.parameters[key[1]] if isinstance(key, tuple) and len(key) == 2 and key[0] == _KIND else key

    def place(self, name: str) -> torch.device:
        """Return the device of that name, or the run's where this machine has none such."""
        place = torch.device(name)
        if place.type == "cpu":
            return place
        module = torch.get_device_module(place.type) if place.type == self.device.type else None
        there = module is not None and (place.index or 0) < module.device_count()
        return place if there else self.device
