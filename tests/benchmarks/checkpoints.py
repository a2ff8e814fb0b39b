"""What a checkpoint in memory costs: the time to take or restore one over that of a plain copy, tensor by tensor.

    python tests/benchmarks/checkpoints.py [--pairs 30] [--megabytes 100] [--device cpu] [--json] [--write]

A pair is one plain copy of all parameters, buffers and optimizer state into tensors that lie ready, and one checkpoint
of the same training taken into a spare one, or restored, in alternating order. Recorded, not asserted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[2])]  # a script finds the repository only by that

from supervisor.checkpoints import capture, restore  # noqa: E402
from supervisor.run import TrainingRun  # noqa: E402
from tests.benchmarks.machine import machine  # noqa: E402
from tests.benchmarks.overhead import interval  # noqa: E402

RESULTS: Final = Path(__file__).with_name("CHECKPOINTS.md")
WIDTHS: Final = {"few large tensors": 1024, "middling": 512, "many small": 128, "very many, very small": 64}


@dataclass(frozen=True)
class Row:
    """The figures of one operation on one training."""

    case: str
    what: str
    tensors: int
    megabytes: float
    plain_ms: float  # median over the pairs
    ratio: float  # median over the pairs
    low: float  # 95 % interval of the median
    high: float
    pairs: int


def training(width: int, megabytes: float, device: str) -> TrainingRun:
    """Return a training under Adam, one step old, whose state takes about so many megabytes."""
    torch.manual_seed(0)
    layers = max(1, round(megabytes * 1e6 / (3 * 4 * (width * width + 3 * width))))
    model = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width)) for _ in range(layers)))
    model = model.to(device)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return TrainingRun(model, (optimizer,))


def tensors_of(run: TrainingRun) -> list[Tensor]:
    moments = [t for state in run.optimizers[0].state.values() for t in state.values()]
    return [*run.model.parameters(), *run.model.buffers(), *moments]


def seconds(operation: Callable[[], object]) -> float:
    _wait()
    begun = time.perf_counter()
    operation()
    _wait()
    return time.perf_counter() - begun


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(case: str, run: TrainingRun, pairs: int) -> list[Row]:
    """Return the rows of one training: taking a checkpoint, and restoring it."""
    live = tensors_of(run)
    ready = [torch.empty_like(tensor) for tensor in live]
    state = capture(run, capture(run))

    @torch.no_grad()
    def plain() -> None:
        for target, tensor in zip(ready, live, strict=True):
            target.copy_(tensor)

    operations = {"taken": lambda: capture(run, state), "restored": lambda: restore(run, state)}
    rows = []
    for what, operation in operations.items():
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(pairs + 2):
            order = [(plain, theirs), (operation, ours)]
            for work, times in order if number % 2 else reversed(order):
                times.append(seconds(work))
        ratios = [a / b for a, b in zip(ours[2:], theirs[2:], strict=True)]  # the first two warm up
        low, high = interval(ratios)
        size = sum(t.numel() * t.element_size() for t in live) / 1e6
        plain_ms = 1e3 * statistics.median(theirs[2:])
        rows.append(Row(case, what, len(live), size, plain_ms, statistics.median(ratios), low, high, pairs))
    return rows


def table(rows: list[Row]) -> str:
    """Return the figures as Markdown."""
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [
        "# What a checkpoint in memory costs",
        "",
        "Time to take a checkpoint into a spare one, or to restore it, over that of a plain copy of the same tensors,",
        "one by one, into tensors that lie ready: median of pairs in alternating order, and a 95 % bootstrap interval",
        "of it. Under Adam. Made by `python tests/benchmarks/checkpoints.py --write`.",
        "",
        f"Machine: {where}.",
        "",
        "| state | tensors | MB | plain copy, ms | checkpoint | over a plain copy | 95 % interval | pairs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {r.case} | {r.tensors} | {r.megabytes:.0f} | {r.plain_ms:.2f} | {r.what} | {r.ratio:.2f} "
            f"| {r.low:.2f} to {r.high:.2f} | {r.pairs} |"
            for r in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the table, and write it down where asked."""
    options: Any = argparse.ArgumentParser(description="What a checkpoint in memory costs.")
    options.add_argument("--pairs", type=int, default=30)
    options.add_argument("--megabytes", type=float, nargs="+", default=[100.0, 400.0], help="sizes of the state")
    options.add_argument("--device", default="cpu")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    settings = options.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for size in settings.megabytes:
        for case, width in WIDTHS.items():
            rows += measure(case, training(width, size, settings.device), settings.pairs)
    print(json.dumps([asdict(row) for row in rows], indent=2) if settings.json else table(rows))
    if settings.write:
        RESULTS.write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
