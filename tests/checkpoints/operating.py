"""A surgery that only says when it is taken back and done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.run import Surgery


@dataclass
class Told:
    """An undo that tells."""

    taken_back: Callable[[], object]
    done_again: Callable[[], object]

    def __call__(self) -> None:
        self.taken_back()

    def redo(self) -> None:
        self.done_again()


def surgery(
    kind: str, taken_back: Callable[[], object] = lambda: None, done_again: Callable[[], object] = lambda: None
) -> Surgery:
    return Surgery({"kind": kind}, Told(taken_back, done_again))
