"""Healthy trainings whose losses and data make others cry wolf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Loss, Recipe, adam, cross_entropy, healthy, rmsprop, sgd, squared
from supervisor.clinic.development._models import Functional, mlp
from supervisor.clinic.tasks import Batch, Task, cancer, diabetes, digits, reconstruction, waves, wine


def times(factor: float) -> Loss:
    """Return cross-entropy times a factor."""
    return lambda model, batch: factor * cross_entropy(model, batch)


def summed(model: nn.Module, batch: Batch) -> Tensor:
    """Return the sum of the samples' cross-entropies."""
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")


class Spread(nn.Module):
    """Predicts a mean, and in training a spread beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(5, 64, 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return mean and log variance in training, else the mean."""
        out: Tensor = self.body(x)
        return out if self.training else out[:, :1]


def likelihood(model: nn.Module, batch: Batch) -> Tensor:
    """Return the negative log-likelihood of a normal distribution: below zero once the fit is good."""
    mean, log_variance = model(batch[0]).split(1, 1)
    return F.gaussian_nll_loss(mean, batch[1], log_variance.exp())


class Variational(nn.Module):
    """A variational autoencoder; in training it returns the moments of its code as well."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = mlp(64, 48, 16), mlp(8, 48, 64)

    def forward(self, x: Tensor) -> Tensor:
        """Return reconstruction, mean and log variance side by side in training, else the reconstruction."""
        mean, log_variance = self.encode(x).chunk(2, 1)
        if not self.training:
            return self.decode(mean)  # type: ignore[no-any-return]
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return torch.cat([self.decode(code), mean, log_variance], 1)


def evidence_bound(model: nn.Module, batch: Batch) -> Tensor:
    """Return the negative evidence lower bound, for pixels of variance 0.05."""
    out, mean, log_variance = model(batch[0]).split([64, 8, 8], 1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    return 10.0 * (out - batch[1]).square().sum(1).mean() + divergence  # type: ignore[no-any-return]


def pixelwise(model: nn.Module, batch: Batch) -> Tensor:
    """Return the binary cross-entropy of an output that is a probability."""
    return F.binary_cross_entropy(model(batch[0]), batch[1])


def one_hot(model: nn.Module, batch: Batch) -> Tensor:
    """Return the binary cross-entropy of probabilities against one-hot labels."""
    out = model(batch[0])
    return F.binary_cross_entropy(out, F.one_hot(batch[1], out.shape[1]).float())


def altered(task: Callable[[], Task], change: Callable[[Tensor], Tensor]) -> Callable[[], Task]:
    """Return the task with other targets, in training and in scoring."""

    def build() -> Task:
        given = task()
        train, test = ((x, change(y)) for x, y in (given.train, given.test))
        return dataclasses.replace(given, train=train, test=test)

    return build


def noisy_labels(tick: int, batch: Batch) -> Batch:
    """Give four labels in ten to chance."""
    generator = torch.Generator().manual_seed(tick)
    wrong = torch.rand(len(batch[1]), generator=generator) < 0.4
    return batch[0], torch.where(wrong, torch.randint(10, batch[1].shape, generator=generator), batch[1])


def random_labels(tick: int, batch: Batch) -> Batch:
    """Give every label to chance, another at each sight."""
    return batch[0], torch.randint(10, batch[1].shape, generator=torch.Generator().manual_seed(tick))


def random_targets(tick: int, batch: Batch) -> Batch:
    """Replace targets by noise."""
    return batch[0], torch.randn(batch[1].shape, generator=torch.Generator().manual_seed(tick))


def heavy_tails(tick: int, batch: Batch) -> Batch:
    """Add noise of which one value in fifty is enormous."""
    generator = torch.Generator().manual_seed(tick)
    noise = torch.randn(batch[1].shape, generator=generator)
    rare = torch.rand(batch[1].shape, generator=generator) < 0.02
    return batch[0], batch[1] + 0.1 * noise + torch.where(rare, 15.0 * noise, 0.0)


def rare_class(tick: int, batch: Batch) -> Batch:
    """Keep few of the zeros: many batches have none."""
    kept = torch.rand(len(batch[1]), generator=torch.Generator().manual_seed(tick)) < 0.1
    chosen = (batch[1] != 0) | kept
    return batch[0][chosen], batch[1][chosen]


net = Recipe(digits, lambda: mlp(64, 64, 48, 10), sgd(0.05), prepare=faults.he)
curve = Recipe(waves, lambda: Functional(5, 64, 64, 1), adam(3e-3), squared, prepare=faults.he)
vary = dataclasses.replace
solved = dataclasses.replace(net, task=wine, model=lambda: mlp(13, 64, 64, 3), optimizer=adam(1e-2), size=16)
certain = dataclasses.replace(
    net, task=wine, model=lambda: mlp(13, 32, 3, act=nn.Tanh, last=(nn.Sigmoid(),)), optimizer=adam(2e-2), loss=one_hot,
)  # fmt: skip
prices = dataclasses.replace(curve, task=altered(waves, lambda y: 3e5 + 1e5 * y), optimizer=adam(1.0), steps=1000)
pixel_probabilities = Recipe(
    reconstruction, lambda: mlp(64, 48, 16, 48, 64, last=(nn.Sigmoid(),)), adam(2e-3), pixelwise, steps=800,
)  # fmt: skip
patients = Recipe(
    diabetes, lambda: mlp(10, 16, 1, act=nn.Tanh), sgd(0.02, weight_decay=0.02),
    lambda m, b: F.l1_loss(m(b[0]), b[1]), steps=900,
)  # fmt: skip
rare = Recipe(cancer, lambda: mlp(30, 24, 2), rmsprop(1e-3), steps=700, size=8)

CASES: tuple[Case, ...] = (
    healthy(
        "mlp/summed-loss", vary(net, loss=summed, optimizer=sgd(1e-3)),
        "a large loss, and large gradients, by its unit",
    ),
    healthy(
        "mlp/loss-times-1e-6", vary(net, loss=times(1e-6), optimizer=adam(2e-3, eps=1e-16)),
        "gradients of 1e-7 under Adam",
    ),
    healthy("mlp/loss-times-1e5", vary(net, loss=times(1e5), optimizer=adam(2e-3)), "gradients of 1e5 under Adam"),
    healthy("mlp/label-noise", vary(net, distort=noisy_labels), "four labels in ten are wrong: the loss stays high"),
    healthy(
        "mlp/random-labels", vary(net, distort=random_labels),
        "there is nothing to learn: the loss stands for ever",
    ),
    healthy(
        "mlp/noise-for-targets", vary(curve, distort=random_targets),
        "there is nothing to learn: the loss stands for ever",
    ),
    healthy("mlp/a-rare-class", vary(net, distort=rare_class), "now and then a batch holds the rare class"),
    healthy("mlp/heavy-tailed-targets", vary(curve, distort=heavy_tails), "single targets make the loss jump tenfold"),
    healthy("mlp/targets-of-1e5", prices, "loss and gradients of 1e10"),
    healthy("mlp/negative-loss", vary(curve, model=Spread, loss=likelihood), "a likelihood falls below zero"),
    healthy("mlp/solved", solved, "loss and gradients fall to zero"),
    healthy("mlp/solved-with-saturated-output", certain, "the output sits at its ends because the task is solved"),
    healthy("mlp/converged-to-its-noise", patients, "the loss stands because all is learned that can be"),
    healthy("mlp/small-sets-rmsprop", rare, "eight samples a batch, seen again and again"),
    healthy("autoencoder/pixel-probabilities", pixel_probabilities, "outputs at 0 and 1: the corners are always black"),
    healthy(
        "autoencoder/variational", Recipe(reconstruction, Variational, adam(2e-3), evidence_bound),
        "a loss of two parts and its noise",
    ),
)  # fmt: skip
