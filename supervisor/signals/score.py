"""The calls of a forward pass as they were seen, so that the next one need only be followed, not understood.

To understand a call (whose weights it takes in, which activations show in it, what it stems from) costs ten times what
it takes to measure it. A network that has made the same calls with the same weights ALIKE + 1 samples running is
followed: call by call it is compared with what was seen, and only what was measured there is measured. Where a call
differs, the sample is given up, the next tick is looked at in full, and twice as many samples have to be alike. Every
REVISIT samples it is looked at in full anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import torch

from supervisor.signals.tags import tensors_in
from supervisor.signals.watched import Key

ALIKE: Final = 3  # samples that equal the one before, until a network is followed
REVISIT: Final = 8  # samples in a row that are followed


class Call(NamedTuple):
    """One call that gave a tensor: how to know it again, and what is measured there."""

    func: Callable[..., Any]
    weights: tuple[tuple[int, int], ...] = ()  # place among the arguments, id of the parameter
    begins: bool = False  # the first one in a forward pass of the whole model
    passage: str = ""  # the layer whose output it is
    within: Key | None = None  # of what the kernel squashes within itself; its function is not told
    site: Key | None = None  # the activation that it applies
    conv: bool = False  # that site's units are channels

    def is_made_by(self, func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        """Return whether a call is this one: the same function of the same weights."""
        if func is not self.func and func != self.func:
            return False
        return all(place < len(args) and id(args[place]) == weight for place, weight in self.weights)


class Score:
    """The calls of the last sample that was looked at in full."""

    def __init__(self, *, readable: bool) -> None:
        """Where it is not `readable`, something has to be looked at in every sample."""
        self.readable = readable
        self.calls: list[Call] = []
        self._seen: list[Call] = []  # of the sample that is being looked at
        self._at = 0  # the next call of the sample that is being followed; -1: it went another way
        self._alike = 0
        self._needed = ALIKE
        self._followed = 0  # samples in a row

    def trusted(self) -> bool:
        """Return whether the next sample may be followed."""
        return self.readable and bool(self.calls) and self._alike >= self._needed and self._followed < REVISIT

    def begin(self) -> None:
        """Begin a sample."""
        self._seen, self._at = [], 0

    def note(self, call: Call) -> None:
        """Note a call of a sample that is looked at in full."""
        if self.readable:
            self._seen.append(call)

    def noted(self) -> None:
        """End a sample that was looked at in full."""
        self._alike = self._alike + 1 if self._seen == self.calls else 0
        self.calls, self._followed = self._seen, 0

    def follow(self, func: Callable[..., Any], args: tuple[Any, ...], out: Any) -> Call | None:  # noqa: ANN401
        """Return what a call of a sample that is followed was before; None where it gave no tensor, or went astray."""
        if not isinstance(out, torch.Tensor) and next(_tensors(out), None) is None:
            return None
        at = self._at
        if 0 <= at < len(self.calls) and self.calls[at].is_made_by(func, args):
            self._at = at + 1
            return self.calls[at]
        self._at = -1
        return None

    def followed(self) -> bool:
        """End a sample that was followed; return whether it went all the same way."""
        whole = self._at == len(self.calls)
        if whole:
            self._followed += 1
        else:
            self._alike, self._needed = 0, 2 * self._needed
        return whole


def _tensors(out: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401 - whatever a function returned
    return tensors_in((out,))
