"""What tensors carry while a forward pass is watched, and how it is taken off them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import nn

from supervisor.signals.watched import Key

LAYER: Final = "_supervisor_layer"  # the layer it stems from
SITES: Final = "_supervisor_sites"  # the activations whose units it still shows
WEIGHT: Final = "_supervisor_weight"  # the layer from whose parameters alone it was computed
BUFFER: Final = "_supervisor_buffer"  # the module from whose buffers alone it was computed
OUTPUT: Final = "_supervisor_output"  # the function that made probabilities of it


def tag(tensors: Iterable[torch.Tensor], tags: dict[str, Any]) -> None:
    """Put `tags` on each tensor."""
    for tensor in tensors:
        vars(tensor).update(tags)


def untag(model: nn.Module) -> None:
    """Take the tags off what outlives a tick: `buffer.add_(x)` leaves them on the buffer."""
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):  # noqa: SLF001 - as fast as it gets
            carried = vars(tensor) if tensor is not None else {}
            for name in (LAYER, SITES, WEIGHT, BUFFER, OUTPUT) if carried else ():
                carried.pop(name, None)


def sites_of(tensors: Iterable[torch.Tensor]) -> set[Key]:
    """Return the activations whose units any of the tensors shows."""
    return {key for tensor in tensors for key in getattr(tensor, SITES, ())}


def stem_of(tensors: Iterable[torch.Tensor], order: dict[str, int]) -> str | None:
    """Return the layer the tensors stem from; of several (a residual sum) the one that comes last in `order`."""
    stems = [stem for tensor in tensors if (stem := getattr(tensor, LAYER, None)) is not None]
    return max(stems, key=lambda stem: order.get(stem, -1), default=None)


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors among the arguments of a call, also those in lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)
