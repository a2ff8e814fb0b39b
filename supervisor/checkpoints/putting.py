"""Kept state put back: into the same tensors, dicts and lists where they are still there and fit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from supervisor.checkpoints.copies import CHUNK, copy_tensors, writable
from supervisor.checkpoints.trees import DICTS, IMMUTABLE, TENSORS, Leaf, Ref, Row, emptied


class Putter:
    """Puts kept trees of one state back. Values of tensors are in place only after `fill`."""

    def __init__(self) -> None:
        self._into: list[Tensor] = []
        self._source: list[Tensor] = []
        self._rows: list[tuple[dict[Any, Any], Row]] = []

    def copy_later(self, live: Tensor, kept: Tensor) -> None:
        """Copy `kept` into `live` in `fill`."""
        self._into.append(live)
        self._source.append(kept)

    def put(self, live: Any, kept: Any) -> Any:  # noqa: ANN401 - anything a state_dict may hold
        """Return what belongs where `live` is (None: nothing is there)."""
        kind = type(kept)
        if kind in IMMUTABLE:
            return kept
        if kind is Row:
            return self._put_row(live if isinstance(live, dict) else {}, kept)
        if kind is Leaf:
            return self._put_tensor(live, kept)
        if kind in DICTS:
            return self.put_dict(live if isinstance(live, dict) else emptied(kept), kept)
        if kind in (list, tuple):
            return self._put_sequence(live, kept)
        return kept.to if kind is Ref else copy.deepcopy(kept)

    def put_dict(self, live: dict[Any, Any], kept: dict[Any, Any]) -> dict[Any, Any]:
        """Put `kept` into `live`, and remove what was not there."""
        if len(live) != len(kept) or live.keys() != kept.keys():
            for key in [key for key in live if key not in kept]:
                del live[key]
        for key, value in kept.items():
            live[key] = self.put(live.get(key), value)
        return live

    def _put_row(self, live: dict[Any, Any], kept: Row) -> dict[Any, Any]:
        if tuple(live) == kept.keys and {*map(type, live.values())} == TENSORS:
            self._rows.append((live, kept))  # whether they all fit is asked in bulk
            return live
        return self.put_dict(live, kept.leaves())

    def _put_tensor(self, live: Any, kept: Leaf) -> Tensor:  # noqa: ANN401
        copy = kept.copy
        if not isinstance(live, Tensor):
            return kept.fresh()
        fits = live.shape == copy.shape and live.dtype is copy.dtype and live.device == (kept.place or copy.device)
        if not (fits and live.layout is copy.layout and writable(live)):
            return kept.fresh()
        self.copy_later(live, copy)
        return live

    def _put_sequence(self, live: Any, kept: Any) -> Any:  # noqa: ANN401 - both lists or tuples
        old = live if isinstance(live, type(kept)) and len(live) == len(kept) else [None] * len(kept)
        new = type(kept)(map(self.put, old, kept))
        if isinstance(live, list) and isinstance(new, list):
            live[:] = new
            return live
        return new

    def fill(self) -> None:
        """Copy the values of all tensors that were found in their places."""
        for rows in _runs(self._rows):
            live = [tensor for state, _ in rows for tensor in state.values()]
            if rows[0][1].shelf.give_back(live, rows[0][1].first):
                for state, row in rows:
                    self.put_dict(state, dict(row.leaves()))
        self._rows = []
        copy_tensors(self._into, self._source)


def _runs(rows: list[tuple[dict[Any, Any], Row]]) -> Iterator[list[tuple[dict[Any, Any], Row]]]:
    """Yield stretches of rows that lie side by side, of about CHUNK tensors each."""
    run: list[tuple[dict[Any, Any], Row]] = []
    size = 0
    for pair in rows:
        row = pair[1]
        if run and (size >= CHUNK or row.first != run[0][1].first + size):
            yield run
            run, size = [], 0
        run.append(pair)
        size += len(row.keys)
    if run:
        yield run


def fresh(kept: Any) -> Any:  # noqa: ANN401
    """Return what was kept as objects of its own: whoever gets it may hold on to it."""
    putter = Putter()
    own = putter.put(None, kept)
    putter.fill()
    return own
