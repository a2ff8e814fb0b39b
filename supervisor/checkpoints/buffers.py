"""Buffers, kept and put back: of a checkpoint, and around every tick, so that a skipped step never happened.

BatchNorm writes its running statistics in forward: a NaN batch ruins them though its step is skipped. Version counters
do not tell: batch norm's kernels and writes through `.data` leave them as they were. So every buffer is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from supervisor.checkpoints.copies import Copies, copy_groups, copy_tensors, grouped, writable

Kept = list[tuple[nn.Module, str, torch.Tensor | None, torch.Tensor | None]]
"""Where a buffer hangs (module, name), the buffer itself, and a copy of its values; None: none was there."""

Place = tuple[nn.Module, str, torch.Tensor | None]
"""A buffer and where it hangs: module, name."""


def buffers_of(modules: Iterable[nn.Module]) -> list[Place]:
    """Return all buffers of `modules`, persistent or not; one that is shared has several places."""
    return [(m, name, live) for m in modules for name, live in m._buffers.items()]  # noqa: SLF001 - at half the price


def once(places: Iterable[Place]) -> dict[int, torch.Tensor]:
    """Return the buffers by their ids, each once."""
    return {id(live): live for *_, live in places if live is not None}


def keep_buffers(modules: Iterable[nn.Module]) -> Kept:
    """Return all buffers of `modules` with copies of their values."""
    places, copies = buffers_of(modules), Copies()
    indices = {key: copies(live) for key, live in once(places).items()}
    copies.fill()
    return with_copies(places, {key: copies.shelf.tensors[index] for key, index in indices.items()})


def with_copies(places: Iterable[Place], copies: Mapping[int, torch.Tensor]) -> Kept:
    """Return `places` with the copies that were made, by the ids of the buffers."""
    return [(m, name, live, None if live is None else copies[id(live)]) for m, name, live in places]


def put_buffers(kept: Kept) -> None:
    """Hang the very same buffers back, also where a forward pass assigned new ones, with the kept values."""
    into: list[torch.Tensor] = []
    source: list[torch.Tensor] = []
    for module, name, live, copy in kept:
        if live is None or copy is None:
            module._buffers[name] = live  # noqa: SLF001
        elif live.layout is torch.strided or writable(live):
            module._buffers[name] = live  # noqa: SLF001
            if live.shape != copy.shape:
                live.data = copy.clone()  # resized in place since
            elif writable(live):
                into.append(live)
                source.append(copy)
        else:
            module._buffers[name] = copy.clone()  # noqa: SLF001 - compressed sparse: nothing can be copied into it
    copy_tensors(into, source)


class BufferGuard:
    """A copy of all buffers of a model, refreshed before every tick."""

    def __init__(self, model: nn.Module) -> None:
        self.bind(model)

    def bind(self, model: nn.Module) -> None:
        """Watch the buffers of `model` as it stands: at the start, and after a surgery."""
        self._model = model
        # The dicts themselves: asking 16 modules for them costs more than all the rest of an idle tick.
        self._homes = [module._buffers for module in model.modules()]  # noqa: SLF001
        self._keep(keep_buffers(model.modules()))

    def _keep(self, kept: Kept) -> None:
        self._kept = kept
        self._places = [(module._buffers, name, live) for module, name, live, _ in kept]  # noqa: SLF001
        pairs = [(copy, live) for *_, live, copy in kept if live is not None and copy is not None]
        self._groups = grouped([copy for copy, _ in pairs], [live for _, live in pairs])

    def remember(self) -> None:
        """Copy the buffers as they are now, into the copies of the last call where they are the same tensors."""
        held = sum(map(len, self._homes))
        if held == len(self._kept) and all(home.get(name) is live for home, name, live in self._places):
            if self._groups:
                copy_groups(self._groups)
        else:
            self._keep(keep_buffers(self._model.modules()))

    def put_back(self) -> Kept:
        """Put every buffer back to what `remember` saw; return what was there, for `put_forward`."""
        there = keep_buffers(self._model.modules())
        put_buffers(self._kept)
        return there

    def put_forward(self, there: Kept) -> None:
        """Take `put_back` back."""
        put_buffers(there)
