"""What watching costs: supervised step time over bare step time, in pairs. Recorded, not asserted.

    python tests/benchmarks/overhead.py [--pairs 10] [--steps 200] [--tracking mlflow]

Both loops train the same model on the same batches in alternating runs; a run's figure is its mean step time, so that
sampled ticks count, and a pair's is the ratio. Printed: median of the ratios and a 95 % bootstrap interval of it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supervisor import supervise

Batches = list[tuple[torch.Tensor, torch.Tensor]]  # inputs, labels
Case = tuple[nn.Module, Batches]

POOL = 16  # different batches
WARMUP = 20  # steps left out of a run's figure


def mlp() -> Case:
    """Return 8 layers of 128, batch 64: bound by dispatch, a hard case for any monitor."""
    layers = [part for _ in range(7) for part in (nn.Linear(128, 128), nn.ReLU())]
    pool = [(torch.randn(64, 128), torch.randint(0, 10, (64,))) for _ in range(POOL)]
    return nn.Sequential(*layers, nn.Linear(128, 10)), pool


def cnn() -> Case:
    """Return three convolutions of 32 to 64 channels with BatchNorm on 3x32x32, batch 32."""
    widths = (3, 32, 64, 64)
    blocks = [
        part
        for a, b in itertools.pairwise(widths)
        for part in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
    ]
    model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 16, 10))
    return model, [(torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))) for _ in range(POOL)]


class Gpt(nn.Module):
    """Four layers, d = 256, T = 128, over 64 characters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(64, 256), nn.Embedding(128, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(256, 64)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Map (batch, T) to scores (batch * T, 64)."""
        hidden = self.tokens(text) + self.places(torch.arange(text.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        scores: torch.Tensor = self.head(self.blocks(hidden, mask=mask, is_causal=True))
        return scores.flatten(0, 1)


def gpt() -> Case:
    """Return the small GPT, batch 8."""
    texts = [torch.randint(0, 64, (8, 129)) for _ in range(POOL)]
    return Gpt(), [(text[:, :-1], text[:, 1:].flatten()) for text in texts]


def bare(case: Case, steps: int) -> list[float]:
    """Train without a supervisor; return the times at which the steps began."""
    model, pool = case
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    began = []
    for inputs, labels in itertools.islice(itertools.cycle(pool), steps):
        began.append(time.perf_counter())
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return began


def supervised(case: Case, steps: int, tracking: str | None) -> list[float]:
    """Train with one; return the times at which the steps began."""
    model, pool = case
    began = []

    def train_step(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        began.append(time.perf_counter())
        inputs, labels = batch
        return cross_entropy(model(inputs), labels)

    with tempfile.TemporaryDirectory() as folder:
        report = supervise(
            train_step,
            model=model,
            optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4),
            data=pool,
            steps=steps,
            tracking=tracking,
            run_dir=f"{folder}/run",
            progress=False,
        )
        assert not report.interventions, report.summary()
    return began


def step_time(began: list[float]) -> float:
    """Return the mean seconds of a step after the warm-up."""
    return (began[-1] - began[WARMUP]) / (len(began) - 1 - WARMUP)


def ratios(build: Callable[[], Case], pairs: int, steps: int, tracking: str | None) -> tuple[list[float], float]:
    """Return the ratio of each pair, and the median bare step in milliseconds."""
    found, plain = [], []
    for number in range(pairs):
        torch.manual_seed(number)
        run: dict[str, float] = {}
        for name in ("bare", "supervised") if number % 2 else ("supervised", "bare"):
            case = build()
            began = bare(case, steps) if name == "bare" else supervised(case, steps, tracking)
            run[name] = step_time(began)
        found.append(run["supervised"] / run["bare"])
        plain.append(1e3 * run["bare"])
    return found, statistics.median(plain)


def interval(values: list[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Measure all cases and print a table."""
    options: Any = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=10)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--tracking", choices=["mlflow", "none"], default="mlflow")
    settings = options.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, one thread, torch {torch.__version__}")
    print("| training | bare step, ms | supervised / bare | 95 % interval |\n| --- | --- | --- | --- |")
    for build in (mlp, cnn, gpt):
        steps = settings.steps if build is not gpt else max(60, settings.steps // 4)
        tracking = None if settings.tracking == "none" else settings.tracking
        found, plain = ratios(build, settings.pairs, steps, tracking)
        low, high = interval(found)
        row = (build.__name__, f"{plain:.2f}", f"{statistics.median(found):.3f}", f"{low:.3f} to {high:.3f}")
        print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
