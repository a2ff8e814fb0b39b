"""The batches that were consumed last: what a trial is run on, and what a rollback may feed again.

They are held as they are, not copied: the bytes are those that the data had already cost. The oldest goes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from torch import Tensor

MOST_BYTES: Final = 256 * 2**20
MOST_GROUPS: Final = 128
"""More than any trial needs."""

ENOUGH: Final = 4  # usual groups


@dataclass(frozen=True, eq=False)
class Consumed:
    """The micro-batches of one tick."""

    tick: int
    batches: list[Any]
    nbytes: int


class Recent:
    """A bounded memory of what was consumed. Batches of an upset tick are held too, but kept out of trials."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._held: deque[Consumed] = deque(maxlen=MOST_GROUPS)
        self._bytes = 0
        self._upset: set[int] = set()

    def add(self, tick: int, batches: list[Any]) -> None:
        """Note what `tick` consumes."""
        if len(self._held) == MOST_GROUPS:
            self._drop()
        group = Consumed(tick, batches, sum(map(bytes_of, batches)))
        self._held.append(group)
        self._bytes += group.nbytes
        while self._bytes > self.most_bytes and len(self._held) > 1:
            self._drop()

    def _drop(self) -> None:
        oldest = self._held.popleft()
        self._bytes -= oldest.nbytes
        self._upset.discard(oldest.tick)

    def note_upset(self, tick: int) -> None:
        """Keep the batches of `tick` out of trials: in it the loss was no usual one."""
        self._upset.add(tick)

    def usable(self, most: int) -> list[list[Any]]:
        """Return the newest usual groups, the oldest first, at most `most`.

        A training that was upset from its start has none: then it was hardly the batches, and any will do.
        """
        usual = [group.batches for group in self._held if group.tick not in self._upset]
        return (usual if len(usual) >= ENOUGH else [group.batches for group in self._held])[-most:]

    def since(self, tick: int) -> list[list[Any]] | None:
        """Return all groups consumed after `tick`, the oldest first; None where some are held no more."""
        later = [group for group in self._held if group.tick > tick]
        return [group.batches for group in later] if later and later[0].tick == tick + 1 else None


def bytes_of(batch: Any) -> int:  # noqa: ANN401 - a batch may be anything
    """Return how many bytes the tensors and arrays in `batch` hold; what else there is counts nothing."""
    if isinstance(batch, Tensor):
        return batch.numel() * batch.element_size()
    if isinstance(batch, np.ndarray):
        return batch.nbytes
    if isinstance(batch, Mapping):
        return sum(map(bytes_of, batch.values()))
    if isinstance(batch, Iterable) and not isinstance(batch, (str, bytes)) and hasattr(batch, "__len__"):
        return sum(map(bytes_of, batch))
    return sum(map(bytes_of, vars(batch).values())) if hasattr(batch, "__dict__") else 0
