"""Who owns what a call of the forward pass takes in: weights, constants computed from them, and what feeds the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.signals.tags import BUFFER, OUTPUT, WEIGHT, tag


class Ownership:
    """Which layer a tensor is the weight of, or stands for the weight of."""

    def __init__(self, owner_of: dict[int, str]) -> None:
        """`owner_of` maps id(parameter) to the path of the module that owns it."""
        self.owner_of = owner_of
        self._buffers: dict[int, str] = {}

    def begin(self, modules: Sequence[tuple[str, nn.Module]]) -> None:
        """Note the buffers as they are now: of a sampled tick."""
        self._buffers = {id(b): path or "model" for path, m in modules for b in m._buffers.values()}  # noqa: SLF001

    def weights(self, inputs: Sequence[Tensor]) -> dict[int, str]:
        """Return the layers whose weights are among `inputs`, by id of the tensor."""
        return {id(t): name for t in inputs if (name := self.owner_of.get(id(t)) or getattr(t, WEIGHT, None))}

    def owns(self, tensor: Tensor) -> bool:
        """Return whether `tensor` is a parameter or a buffer of the model: it outlives the tick."""
        return id(tensor) in self.owner_of or id(tensor) in self._buffers

    def constant(self, inputs: Sequence[Tensor], weights: dict[int, str]) -> dict[str, Any]:
        """Return the tag of what stands for a layer's weight: computed from that and its own buffers alone.

        The buffers of a normalization (spectral norm) are its own; a constant input elsewhere in the model is not.
        """
        buffers = [self._buffers.get(id(t)) or getattr(t, BUFFER, None) for t in inputs if id(t) not in weights]
        owners = set(weights.values())
        if not inputs or None in buffers or len(owners) > 1:
            return {}
        if not owners:
            return {BUFFER: buffers[0]}
        owner = owners.pop()
        return {WEIGHT: owner} if all(path is not None and path.startswith(owner) for path in buffers) else {}


_PROBABILITIES: Final[dict[Any, str]] = {
    **dict.fromkeys([F.softmax, torch.softmax, Tensor.softmax], "softmax"),
    **dict.fromkeys([torch.sigmoid, Tensor.sigmoid, F.sigmoid], "sigmoid"),
}
_SHAPES: Final[frozenset[Any]] = frozenset(
    {
        *(Tensor.view, Tensor.reshape, torch.reshape, Tensor.squeeze, torch.squeeze, Tensor.flatten, torch.flatten),
        *(Tensor.transpose, torch.transpose, Tensor.permute, torch.permute, Tensor.contiguous, Tensor.float),
        *(Tensor.__getitem__, Tensor.unsqueeze, torch.unsqueeze, Tensor.to, Tensor.clone),
    },
)
_MISFITS: Final[dict[Any, tuple[str, frozenset[str]]]] = {
    F.cross_entropy: ("cross_entropy", frozenset({"softmax", "sigmoid"})),
    F.nll_loss: ("nll_loss", frozenset({"softmax", "sigmoid"})),
    F.binary_cross_entropy_with_logits: ("binary_cross_entropy_with_logits", frozenset({"softmax", "sigmoid"})),
}
"""Losses that take scores (or their logarithms), and what they must not be given."""


def misfit(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Sequence[Tensor]) -> str:
    """Follow probabilities from where they are made to a loss that does its own squashing; say what does not fit."""
    if func in _PROBABILITIES:
        tag(outputs, {OUTPUT: _PROBABILITIES[func]})
        return ""
    first = args[0] if args else kwargs.get("input")
    made_by = getattr(first, OUTPUT, None) if isinstance(first, Tensor) else None
    if made_by is None:
        return ""
    if func in _SHAPES:
        tag(outputs, {OUTPUT: made_by})
    loss, refused = _MISFITS.get(func, ("", frozenset()))
    return f"{loss} of {made_by}" if made_by in refused else ""
