"""Buffers, kept and put back: of a checkpoint, and around every tick, so that a skipped step never happened.

BatchNorm writes its running statistics in forward: a NaN batch ruins them though its step is skipped. Version counters
do not tell: batch norm's kernels and writes through `.data` leave them as they were. So every buffer is copied.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

Kept = list[tuple[nn.Module, str, torch.Tensor | None, torch.Tensor | None]]
"""Where a buffer hangs (module, name), the buffer itself, and a copy of its values; None: none was there."""

_NONE: Final = (None, None)


def copy_tensors(into: list[torch.Tensor], source: list[torch.Tensor]) -> None:
    """Copy lists of tensors, in one fused call for each device and dtype."""
    with torch.no_grad():
        for place in {(t.device, t.dtype) for t in into}:
            chosen = [i for i, t in enumerate(into) if (t.device, t.dtype) == place]
            torch._foreach_copy_([into[i] for i in chosen], [source[i] for i in chosen])


def keep_buffers(model: nn.Module) -> Kept:
    """Return all buffers of `model`, persistent or not, with copies of their values."""
    copies: dict[int, torch.Tensor] = {}
    kept: Kept = []
    for module in model.modules():
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
        self._model, self._modules = model, list(model.modules())
        self._kept = keep_buffers(model)
        self._pairs()

    def _pairs(self) -> None:
        self._tensors = [live for *_, live, _ in self._kept if live is not None]
        self._copies = [copy for *_, copy in self._kept if copy is not None]

    def remember(self) -> None:
        """Copy the buffers as they are now, into the copies of the last call where they are the same tensors."""
        held = sum(len(module._buffers) for module in self._modules)  # noqa: SLF001
        if held == len(self._kept) and all(m._buffers.get(name) is live for m, name, live, _ in self._kept):  # noqa: SLF001
            copy_tensors(self._copies, self._tensors)
        else:
            self._kept = keep_buffers(self._model)
            self._pairs()

    def put_back(self) -> Kept:
        """Put every buffer back to what `remember` saw; return what was there, for `put_forward`."""
        there = keep_buffers(self._model)
        put_buffers(self._kept)
        return there

    def put_forward(self, there: Kept) -> None:
        """Take `put_back` back."""
        put_buffers(there)
