"""Healthy trainings whose loss makes others cry wolf: its scale, its floor, its parts, its derivatives."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._build import Recipe, adagrad, adam, adamw, sgd, well
from supervisor.clinic.held_out._convolution import UNet, plain_net
from supervisor.clinic.held_out._dense import Functional, Gated, stack
from supervisor.clinic.held_out._dense_recipes import Priced
from supervisor.clinic.held_out._generative import Variational
from supervisor.clinic.held_out._pretrained import pretrained
from supervisor.clinic.tasks import Batch, Task


class _Tasks(nn.Module):
    """A label and the ink's amount from one trunk, each loss weighed by a trained uncertainty."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.label, self.ink = stack([64, 48, 48], nn.ReLU), nn.Linear(48, 10), nn.Linear(48, 1)
        self.log_variance = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.label(torch.relu(self.trunk(x)))
        return result


def _both_tasks(model: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(model, _Tasks)
    h = torch.relu(model.trunk(batch[0]))
    losses = torch.stack(
        [
            F.cross_entropy(model.label(h), batch[1]),
            F.mse_loss(model.ink(h)[:, 0], batch[0].mean(1)),
        ]
    )
    return (losses * torch.exp(-model.log_variance) + 0.5 * model.log_variance).sum()


def _margin(out: Tensor, target: Tensor) -> Tensor:
    return F.multi_margin_loss(out, target, p=2)


def _pupil() -> nn.Module:
    pretrained(coarse=False)  # the teacher is taught before the lesson begins
    return Gated(64, 32, 1, 10, torch.sigmoid)


def _distilled(model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        taught = F.softmax(pretrained(coarse=False)(batch[0]) / 4, -1)
    return 16 * F.kl_div(F.log_softmax(model(batch[0]) / 4, -1), taught, reduction="batchmean")


def _derivative(model: nn.Module, batch: Batch) -> Tensor:
    """Return the error of u' = cos(3x) * 3 and of u(0) = 0, of which the solution is sin(3x)."""
    x = batch[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    result: Tensor = (slope - 3 * torch.cos(3 * x)).square().mean() + model(torch.zeros(1, 1)).square().mean()
    return result


@cache
def solution() -> Task:
    """3000 abscissae from -1 to 1, and sin(3x)."""
    (x, _), (held, _) = data.curve().train, data.curve().test
    return Task((x, torch.sin(3 * x)), (held, torch.sin(3 * held)), "r2")


def _annealed(model: nn.Module, batch: Batch) -> Tensor:
    """Return the evidence bound; the divergence counts for more from epoch to epoch, so that the loss rises."""
    assert isinstance(model, Variational)
    error = F.mse_loss(model(batch[0]), batch[1], reduction="none").sum(-1).mean()
    model.seen += 1
    return error + 0.1 * min(1.0, model.seen / 500) * model.divergence


def _sum(out: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(out, target, reduction="sum")


CASES: tuple[Case, ...] = (
    well(
        "cnn/loss-summed-over-batch",
        "cnn",
        Recipe(tasks.images, lambda: plain_net(nn.ReLU), sgd(1e-3), _sum, steps=700, size=48),
        "gradients fifty times as large",
    ),
    well(
        "autoencoder/unet-loss-summed-over-pixels",
        "autoencoder",
        Recipe(data.denoising, UNet, adam(3e-3), lambda out, y: F.mse_loss(out, y, reduction="sum"), steps=350),
        "a loss in the hundreds",
    ),
    well(
        "mlp/loss-times-1e-6-adam",
        "mlp",
        Recipe(
            tasks.digits,
            lambda: Functional([64, 48, 48, 10], F.elu),
            adam(2e-3, eps=1e-16),
            lambda out, y: 1e-6 * F.cross_entropy(out, y),
            steps=700,
        ),
        "gradients of 1e-7, and all is well",
    ),
    well(
        "mlp/prices-raw-mse-adam",
        "mlp",
        Recipe(data.prices, Priced, adam(3e-3), F.mse_loss, steps=700),
        "a loss of 1e10 and gradients alike",
    ),
    well(
        "other/two-tasks-weighed-by-uncertainty",
        "other",
        Recipe(tasks.digits, _Tasks, adam(3e-3), steps=800, step=_both_tasks),
        "a weighed loss that falls below 0",
    ),
    well(
        "mlp/margin-loss-solved",
        "mlp",
        Recipe(tasks.digits, lambda: stack([64, 64, 10], nn.ReLU), sgd(0.1), _margin, steps=900),
        "most batches have no loss and no gradient",
    ),
    well(
        "mlp/distillation-at-temperature-4",
        "mlp",
        Recipe(tasks.digits, _pupil, adagrad(0.05), steps=800, step=_distilled),
        "a loss scaled by 16",
    ),
    well(
        "other/slope-of-a-curve",
        "other",
        Recipe(solution, lambda: stack([1, 40, 40, 1], nn.Tanh), adam(3e-3), steps=700, step=_derivative),
        "gradients of gradients",
    ),
    well(
        "autoencoder/variational-annealed",
        "autoencoder",
        Recipe(tasks.reconstruction, Variational, adam(3e-3), steps=800, step=_annealed),
        "the loss rises because the divergence comes to count",
    ),
    well(
        "autoencoder/black-and-white-bce",
        "autoencoder",
        Recipe(
            data.bits,
            lambda: Functional([64, 40, 12, 40, 64], F.gelu, torch.sigmoid),
            adamw(3e-3),
            F.binary_cross_entropy,
            steps=900,
        ),
        "outputs that saturate because most pixels are black",
    ),
)
