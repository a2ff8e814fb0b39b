"""Copies of many tensors at once, into memory that is used again where there is some."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import compress
from operator import attrgetter, eq, is_
from typing import Final

import torch
from torch import Tensor

_ON_CPU: Final = attrgetter("is_cpu")
_DEVICE: Final = attrgetter("device")
_DTYPE: Final = attrgetter("dtype")
_LAYOUT: Final = attrgetter("layout")
_SHAPE: Final = attrgetter("shape")
CHUNK: Final = 256  # tensors

Group = tuple[list[Tensor], list[Tensor]]
"""Targets and sources of one fused copy: all on one device, of one dtype."""


def copy_tensors(into: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy lists of tensors, in one fused call for each device and dtype."""
    copy_groups(grouped(into, source))


def grouped(into: Sequence[Tensor], source: Sequence[Tensor]) -> list[Group]:
    """Return pairs of lists that one fused call each can copy."""
    if all(map(_ON_CPU, into)) and all(map(_ON_CPU, source)):
        return [(list(into), list(source))]  # there a call takes tensors of any dtype
    groups: dict[tuple[torch.device, torch.dtype], Group] = {}
    for target, tensor in zip(into, source, strict=True):
        targets, tensors = groups.setdefault((target.device, target.dtype), ([], []))
        targets.append(target)
        tensors.append(tensor)
    return list(groups.values())


def copy_groups(groups: Sequence[Group]) -> None:
    """Copy the second list of each pair into the first."""
    with torch.no_grad():
        for targets, tensors in groups:
            if not targets:
                continue
            try:
                torch._foreach_copy_(targets, tensors)
            except RuntimeError:  # it takes no conjugated views and not every subclass; what it copied is right
                for target, tensor in zip(targets, tensors, strict=True):
                    target.copy_(tensor)


def writable(tensor: Tensor) -> bool:
    """Return whether values can be copied into `tensor`: not into an expanded or a compressed sparse one.

    Nobody else can write into an expanded tensor either, so it has not changed.
    """
    if tensor.layout is not torch.strided:
        return tensor.layout is torch.sparse_coo
    return tensor.is_contiguous() or all(
        stride or size <= 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def alike(a: Tensor, b: Tensor) -> bool:
    """Return whether the values of the one fit into the other as they are, wherever both lie."""
    return a.dtype is b.dtype and a.shape == b.shape and a.layout is b.layout


class Shelf:
    """Copies of tensors side by side, with what has to be known of each to use its memory again.

    It is asked in bulk: one by one, `tensor.shape` and its like cost as much as the copying of small tensors. And in
    stretches of CHUNK, so that a tensor is still in the processor's cache when it is copied after it was looked at.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._shapes: list[torch.Size] = []
        self._dtypes: list[torch.dtype] = []
        self._dense = self.on_cpu = True  # all of them

    def put(self, tensors: Sequence[Tensor]) -> None:
        """Put more copies on the shelf."""
        self.tensors += tensors
        self._shapes += map(_SHAPE, tensors)
        self._dtypes += map(_DTYPE, tensors)
        self._dense, self.on_cpu = self._dense and _dense(tensors), self.on_cpu and all(map(_ON_CPU, tensors))

    def take_over(self, other: Shelf, part: slice) -> None:
        """Put a part of another shelf on this one."""
        self.tensors += other.tensors[part]
        self._shapes += other._shapes[part]
        self._dtypes += other._dtypes[part]
        self._dense, self.on_cpu = self._dense and other._dense, self.on_cpu and other.on_cpu

    def fits(self, live: Sequence[Tensor], part: slice) -> bool:
        """Return whether a part of the shelf and the tensors `live` are alike, and lie on the same devices."""
        copies = self.tensors[part]
        # Without lists of their own: thousands of new objects would make the garbage collector go through all there is.
        return (
            self._dense
            and len(copies) == len(live)
            and all(map(is_, self._dtypes[part], map(_DTYPE, live)))
            and all(map(eq, self._shapes[part], map(_SHAPE, live)))
            and _dense(live)
            and (all(map(_ON_CPU, live)) if self.on_cpu else all(map(eq, map(_DEVICE, copies), map(_DEVICE, live))))
        )

    def give_back(self, live: Sequence[Tensor], first: int) -> list[int]:
        """Copy what lies on the shelf from `first` on into `live`; return the indices of those it does not fit into."""
        misfits: list[int] = []
        for start in range(0, len(live), CHUNK):
            into = live[start : start + CHUNK]
            part = slice(first + start, first + start + len(into))
            source = self.tensors[part]
            if not (self.fits(into, part) and all(map(Tensor.is_contiguous, into))):
                fit = [alike(a, b) and writable(a) for a, b in zip(into, source, strict=True)]
                misfits += [start + index for index, fits in enumerate(fit) if not fits]
                into, source = list(compress(into, fit)), list(compress(source, fit))
            copy_tensors(into, source)
        return misfits


def _dense(tensors: Iterable[Tensor]) -> bool:
    return {*map(_LAYOUT, tensors)} <= {torch.strided}


class Copies:
    """Takes copies of tensors, all of them at once in `fill`.

    `spare` are copies taken before that nobody needs any more: those that are alike, in the order of taking, are
    written into again. `place` is the device the copies shall lie on; None: each where its tensor is.
    """

    def __init__(self, spare: Shelf | None = None, place: torch.device | None = None) -> None:
        self.shelf = Shelf()  # the copies, in the order in which they were asked for; empty before `fill`
        self.place = place
        self._spare = spare
        self._live: list[Tensor] = []

    def __call__(self, live: Tensor) -> int:
        """Ask for a copy of `live`; return its place on the shelf."""
        self._live.append(live)
        return len(self._live) - 1

    def several(self, live: Collection[Tensor]) -> int:
        """Ask for copies of all `live` at once; return the place of the first."""
        self._live.extend(live)
        return len(self._live) - len(live)

    def fill(self) -> None:
        """Copy the values of all tensors asked for."""
        spare, shelf = self._spare, self.shelf
        for start in range(0, len(self._live), CHUNK):
            live, part = self._live[start : start + CHUNK], slice(start, start + CHUNK)
            if spare is not None and self.place is None and spare.fits(live, part):
                shelf.take_over(spare, part)
                if spare.on_cpu:
                    copy_groups([(shelf.tensors[part], live)])  # no need to look at them once more
                    continue
            else:
                old = [] if spare is None else spare.tensors[part]
                some = [*old[: len(live)], *[None] * (len(live) - len(old))]
                shelf.put([_memory(tensor, maybe, self.place) for tensor, maybe in zip(live, some, strict=True)])
            copy_tensors(shelf.tensors[part], live)


def _memory(live: Tensor, old: Tensor | None, place: torch.device | None) -> Tensor:
    """Return memory for a copy of `live`: that of `old` if it fits."""
    if live.layout is not torch.strided:
        return live.detach().to(place or live.device, copy=True)  # how much it needs, only its values tell
    if old is None and place is None and live.is_contiguous():
        return torch.empty_like(live)
    device = place or live.device
    if old is not None and old.device == device and alike(old, live):
        return old
    if not writable(live):
        return torch.empty(live.shape, dtype=live.dtype, device=device)
    return torch.empty_like(live, device=device, requires_grad=False)


def size(tensors: Iterable[Tensor]) -> int:
    """Return how many bytes `tensors` take."""
    return sum(t.numel() * t.element_size() if t.layout is torch.strided else _sparse_size(t) for t in tensors)


def _sparse_size(tensor: Tensor) -> int:
    """Return about how many bytes a sparse tensor takes: its values, and an index of 8 bytes for each dimension."""
    entries = tensor._nnz()  # noqa: SLF001 - torch's own name, and it has no other
    return int(entries) * (tensor.element_size() + 8 * tensor.ndim)
