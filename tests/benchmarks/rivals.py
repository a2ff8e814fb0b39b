"""What others do to watch a training, in the same loop: the cost to stay below.

Each rival is attached to a model, is called after every backward pass, and is detached in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import torch
from torch import nn

ACTIVATIONS: Final = (nn.ReLU, nn.GELU)


class Rival(Protocol):
    """A way to watch a training."""

    def after_backward(self) -> None:
        """Look at the gradients."""

    def detach(self) -> None:
        """Take everything off the model."""


class ReferenceMonitor:
    """The textbook's loop: the norm of every gradient by `.item()`, and the share of zeros behind every activation."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.total_norm = 0.0
        self.zeros: dict[str, float] = {}
        modules = [(name, m) for name, m in model.named_modules() if isinstance(m, ACTIVATIONS)]
        self._handles = [module.register_forward_hook(self._hook(name)) for name, module in modules]

    def _hook(self, name: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, out: torch.Tensor) -> None:
            self.zeros[name] = (out == 0).float().mean().item()

        return note

    def after_backward(self) -> None:
        """Sum the squared norms on the host."""
        total = 0.0
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                total += parameter.grad.norm().item() ** 2
        self.total_norm = total**0.5

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


class Clip:
    """`clip_grad_norm_` alone: it measures one number and tells nobody."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def after_backward(self) -> None:
        """Clip far above any norm that occurs, so that the training stays the same."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1e6)

    def detach(self) -> None:
        """Do nothing."""


class Histograms:
    """A histogram of every gradient, as `wandb.watch(log="gradients")` computes it in a hook on each parameter.

    64 bins between smallest and largest value, read back to the host. Nothing is sent anywhere.
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        """Make them on each `every`-th backward pass; wandb's default is 1000."""
        self.every, self._step = every, 0
        self.found: dict[str, tuple[list[float], list[float]]] = {}
        self._handles = [p.register_hook(self._hook(name)) for name, p in model.named_parameters()]

    def _hook(self, name: str) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            if self._step % self.every:
                return
            flat = gradient.detach().reshape(-1).float()
            low, high = flat.min().item(), flat.max().item()
            counts = torch.histc(flat, bins=64, min=low, max=high)
            edges = torch.linspace(low, high, steps=65)
            self.found[name] = (counts.tolist(), edges.tolist())

        return note

    def after_backward(self) -> None:
        """Count the step."""
        self._step += 1

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


RIVALS: Final[dict[str, Callable[[nn.Module], Rival]]] = {
    "reference's monitor": ReferenceMonitor,
    "clip_grad_norm_ alone": Clip,
    "gradient histograms, every step": lambda model: Histograms(model, 1),
    "gradient histograms, every 100th": lambda model: Histograms(model, 100),
}
