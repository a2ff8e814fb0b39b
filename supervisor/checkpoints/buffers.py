"""Buffers, kept and put back: of a checkpoint, and around every tick, so that a skipped step never happened.

BatchNorm writes its running statistics in forward: a NaN batch ruins them though its step is skipped. Version counters
do not tell: batch norm's kernels and writes through `.data` leave them as they were. So every buffer is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import nn

Group = tuple[list[torch.Tensor], list[torch.Tensor]]
"""Targets and sources of one fused copy: all on one device, of one dtype."""

Kept = list[tuple[nn.Module, str, torch.Tensor | None, torch.Tensor | None]]
"""Where a buffer hangs (module, name), the buffer itself, and a copy of its values; None: none was there."""

_NONE: Final = (None, None)


def copy_tensors(into: Sequence[torch.Tensor], source: Sequence[torch.Tensor]) -> None:
    """Copy lists of tensors, in one fused call for each device and dtype."""
    copy_groups(grouped(into, source))


def grouped(into: Sequence[torch.Tensor], source: Sequence[torch.Tensor]) -> list[Group]:
    """Return pairs of lists that one fused call each can copy."""
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
            torch._foreach_copy_(targets, tensors)


def keep_buffers(modules: Iterable[nn.Module]) -> Kept:
    """Return all buffers of `modules`, persistent or not, with copies of their values."""
    copies: dict[int, torch.Tensor] = {}
    kept: Kept = []
    for module in modules:
        for name, live in module._buffers.items():  # noqa: SLF001 - getattr goes through three dicts
            if live is None:
                kept.append((module, name, *_NONE))
            else:
                copy = copies.setdefault(id(live), live.detach().clone())
                kept.append((module, name, live, copy))
    return kept


def put_buffers(kept: Kept) -> None:
    """Hang the very same buffers back, also where a forward pass assigned new ones, with the kept values."""
    for module, name, live, _ in kept:
        module._buffers[name] = live  # noqa: SLF001
    pairs = [(live, copy) for *_, live, copy in kept if live is not None and copy is not None and _writable(live)]
    copy_tensors([live for live, _ in pairs], [copy for _, copy in pairs])


def _writable(tensor: torch.Tensor) -> bool:
    """Return False for an expanded tensor: nobody can write into it, so it has not changed."""
    if tensor.layout is not torch.strided:
        return True
    return all(stride or size <= 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


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
