"""Keeps the buffers as they were before a forward pass, so that a skipped step never happened.

BatchNorm writes its running statistics in forward: a NaN batch ruins them though its step is skipped. A buffer is
copied only when its version counter says that it changed, so masks and tables are copied once in a run.
"""

from __future__ import annotations

import torch
from torch import nn


class BufferGuard:
    """A copy of all buffers of a model, refreshed before every tick."""

    def __init__(self, model: nn.Module) -> None:
        self._kept: dict[tuple[nn.Module, str], tuple[torch.Tensor, int, torch.Tensor]] = {}
        self.bind(model)

    def bind(self, model: nn.Module) -> None:
        """Watch the buffers of `model` as it stands: at the start, and after a surgery."""
        self._places = [(m, name) for m in model.modules() for name, b in m._buffers.items() if b is not None]  # noqa: SLF001
        self._kept = {place: kept for place, kept in self._kept.items() if place in self._places}

    def remember(self) -> None:
        """Copy the buffers that changed since the last call."""
        for place in self._places:
            module, name = place
            live = module._buffers[name]  # noqa: SLF001 - getattr goes through three dicts
            if live is None:
                continue
            kept = self._kept.get(place)
            if kept is None or kept[0] is not live:
                self._kept[place] = (live, live._version, live.detach().clone())  # noqa: SLF001
            elif kept[1] != live._version:  # noqa: SLF001
                kept[2].copy_(live)
                self._kept[place] = (live, live._version, kept[2])  # noqa: SLF001

    def put_back(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Restore every buffer that changed since `remember`; return what was there, for `put_forward`."""
        changed = []
        for place, (tensor, version, copy) in self._kept.items():
            module, name = place
            live = module._buffers[name]  # noqa: SLF001
            if live is not None and (live is not tensor or live._version != version):  # noqa: SLF001
                changed.append((tensor, live.detach().clone()))
                tensor.copy_(copy)
                self._kept[place] = (tensor, tensor._version, copy)  # noqa: SLF001
                module._buffers[name] = tensor  # noqa: SLF001
        return changed

    def put_forward(self, changed: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take `put_back` back."""
        for tensor, value in changed:
            tensor.copy_(value)
