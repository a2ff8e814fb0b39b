"""Tasks beside the clinic's common ones: signals, pairs, translations, counts, noise to be taken away."""

from __future__ import annotations

import math
from functools import cache

import torch
from sklearn import datasets
from torch import Tensor

from supervisor.clinic.tasks import Metric, Task, digits, images


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _task(inputs: Tensor, targets: Tensor, metric: Metric) -> Task:
    """Split: a fixed quarter is held out."""
    order = torch.randperm(len(inputs), generator=_generator(0))
    train, test = order[: len(order) * 3 // 4], order[len(order) * 3 // 4 :]
    return Task((inputs[train], targets[train]), (inputs[test], targets[test]), metric)


@cache
def signals(length: int = 48) -> Task:
    """3000 noisy signals (n, 1, length): sine, square, saw-tooth or chirp, of any phase and frequency."""
    g = _generator(11)
    n = 3000
    t = torch.linspace(0, 1, length) * (2 + 3 * torch.rand(n, 1, generator=g)) + torch.rand(n, 1, generator=g)
    sine = torch.sin(2 * math.pi * t)
    shapes = torch.stack([sine, sine.sign(), 2 * (t % 1) - 1, torch.sin(2 * math.pi * t * t / 2)], 1)
    label = torch.randint(4, (n,), generator=g)
    clean = shapes[torch.arange(n), label]
    return _task((clean + 0.2 * torch.randn(n, length, generator=g))[:, None], label, "accuracy")


@cache
def raw_wine() -> Task:
    """Wine as it comes: 13 features, the largest near 1000."""
    features, labels = datasets.load_wine(return_X_y=True)
    return _task(torch.tensor(features, dtype=torch.float32), torch.tensor(labels), "accuracy")


@cache
def pairs() -> Task:
    """6000 pairs of two images, (n, 2, 64); 1 where both show the same digit, (n, 1) float: a little over half."""
    g = _generator(12)
    (x, y), n = digits().train, 6000
    left = torch.randint(len(x), (n,), generator=g)
    right = (left + torch.randint(1, len(x), (n,), generator=g)) % len(x)
    for i in range(0, n, 2):
        alike = ((y == y[left[i]]) & (torch.arange(len(x)) != left[i])).nonzero().flatten()
        right[i] = alike[torch.randint(len(alike), (1,), generator=g)]
    return _task(torch.stack([x[left], x[right]], 1), (y[left] == y[right]).float()[:, None], "accuracy")


@cache
def reversal(length: int = 8, letters: int = 10) -> Task:
    """4000 sequences of tokens (n, length), and the same backwards."""
    tokens = torch.randint(letters, (4000, length), generator=_generator(13))
    return _task(tokens, tokens.flip(1), "accuracy")


@cache
def majority(length: int = 24, letters: int = 6) -> Task:
    """4000 padded sequences (n, length), 0 is padding; the label is the commonest of the other letters."""
    g = _generator(14)
    favourite = torch.randint(1, letters, (4000, 1), generator=g)
    tokens = torch.randint(1, letters, (4000, length), generator=g)
    tokens = torch.where(torch.rand(4000, length, generator=g) < 0.3, favourite, tokens)
    ends = torch.randint(length // 3, length + 1, (4000, 1), generator=g)
    return _task(tokens * (torch.arange(length) < ends), favourite[:, 0], "accuracy")


@cache
def counts() -> Task:
    """4000 points in six dimensions, and Poisson counts whose log rate is a smooth function of them, (n, 1)."""
    g = _generator(15)
    x = torch.randn(4000, 6, generator=g)
    rate = torch.exp(1.0 + 0.8 * torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2].tanh())
    return _task(x, torch.poisson(rate.clamp(max=30.0), generator=g)[:, None], "r2")


@cache
def denoising() -> Task:
    """Digits as images with noise, and without, (n, 1, 8, 8)."""
    (x, _), (held, _) = images().train, images().test
    both = torch.cat([x, held])
    return _task(both + 0.4 * torch.randn(both.shape, generator=_generator(16)), both, "r2")


@cache
def bits() -> Task:
    """Digits as black and white pixels, their own targets, (n, 64)."""
    (x, _), (held, _) = digits().train, digits().test
    both = (torch.cat([x, held]) > 0.5).float()
    return _task(both, both, "r2")


@cache
def modular(prime: int = 23) -> Task:
    """All pairs (a, b) below a prime, the label is (a + b) mod prime."""
    a, b = torch.meshgrid(torch.arange(prime), torch.arange(prime), indexing="ij")
    return _task(torch.stack([a.flatten(), b.flatten()], 1), ((a + b) % prime).flatten(), "accuracy")


@cache
def spirals() -> Task:
    """3000 points of three interleaved spirals in the plane."""
    g = _generator(17)
    label = torch.randint(3, (3000,), generator=g)
    radius = torch.rand(3000, generator=g)
    angle = 4 * radius + label * (2 * math.pi / 3) + 0.1 * torch.randn(3000, generator=g)
    return _task(2 * torch.stack([radius * angle.cos(), radius * angle.sin()], 1), label, "accuracy")


@cache
def curve() -> Task:
    """3000 abscissae from -1 to 1, and a wave of rising frequency, (n, 1)."""
    x = 2 * torch.rand(3000, 1, generator=_generator(18)) - 1
    return _task(x, torch.sin(6 * x * (1.5 + x)), "r2")


@cache
def prices() -> Task:
    """House-price-like targets: thousands to millions, log-normal, of eight features."""
    g = _generator(19)
    x = torch.randn(4000, 8, generator=g)
    log = 12.0 + 0.5 * x[:, 0] + 0.3 * x[:, 1] * x[:, 2] + 0.2 * x[:, 3].abs() + 0.05 * torch.randn(4000, generator=g)
    return _task(x, log.exp()[:, None], "r2")


@cache
def rare() -> Task:
    """4000 points in ten dimensions, 4 % of which lie in a shell of their own and are of class 1, (n, 1) float."""
    g = _generator(20)
    x = torch.randn(4000, 10, generator=g)
    label = (torch.arange(4000) % 25 == 0).float()
    x[label == 1, :3] += 2.5
    return _task(x, label[:, None], "accuracy")


@cache
def bags(words: int = 2000, length: int = 12) -> Task:
    """4000 short documents (n, length) over many words, most of them rare; a word's class is its number mod 4."""
    g = _generator(21)
    label = torch.randint(4, (4000,), generator=g)
    word = (words / 4 * torch.rand(4000, length, generator=g).pow(3)).long() * 4
    mine = torch.rand(4000, length, generator=g) < 0.5
    return _task(
        word + torch.where(mine, label[:, None], torch.randint(4, (4000, length), generator=g)), label, "accuracy"
    )
