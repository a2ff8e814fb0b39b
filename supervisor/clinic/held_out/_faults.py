"""What can go wrong, as the fields of a recipe."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.clinic.held_out._build import Corrupt, Rate, Strike
from supervisor.clinic.tasks import Batch


def jump(at: int, factor: float) -> Rate:
    """Return a schedule that multiplies the rate by `factor` from tick `at` on."""
    return lambda step: factor if step + 1 >= at else 1.0


def normal(std: float, *kinds: type[nn.Module]) -> Callable[[nn.Module], None]:
    """Return an initialization: every weight matrix from a normal distribution, every bias 0."""

    def init(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, kinds or (nn.Linear, nn.Conv1d, nn.Conv2d)):
                for name, p in module.named_parameters(recurse=False):
                    nn.init.normal_(p, std=std) if name == "weight" else nn.init.zeros_(p)

    return init


def fill(bias: float, *, but: str = "") -> Callable[[nn.Module], None]:
    """Return an initialization: the bias of every linear and convolutional layer constant, but of the one named."""

    def init(model: nn.Module) -> None:
        for name, module in model.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and module.bias is not None and name != but:
                nn.init.constant_(module.bias, bias)

    return init


def once(at: int, change: Callable[[nn.Module, Optimizer], None]) -> Strike:
    """Return a strike in one tick."""
    return lambda tick, model, optimizer: change(model, optimizer) if tick == at else None


def batch_at(at: int, change: Callable[[Tensor, Tensor], Batch], *, lasting: int = 1) -> Corrupt:
    """Return a corruption of `lasting` batches, the first at tick `at`; the data set itself stays whole."""
    return lambda tick, batch: change(batch[0].clone(), batch[1].clone()) if at <= tick < at + lasting else batch
