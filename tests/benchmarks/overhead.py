"""What watching costs: the time of a watched step over that of a bare one. Recorded, not asserted.

    python tests/benchmarks/overhead.py [--pairs 30] [--only mlp cnn gpt] [--rivals 10] [--json] [--write]

A pair is two runs in a row on the same fresh model and batches, in alternating order, in this one process; a run's
figure is its mean step time after a warm-up, so that sampled ticks, checkpoints and the background's share of the
interpreter count. Start and end of a run (creating the record, sending what is left to MLflow) do not.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[2])]  # a script finds the repository only by that

from supervisor import supervise  # noqa: E402
from tests.benchmarks.cases import Case, Training, cases  # noqa: E402
from tests.benchmarks.machine import machine, table  # noqa: E402
from tests.benchmarks.rivals import RIVALS, Rival  # noqa: E402

WARMUP: Final = 20  # steps left out of a run's figure
RESULTS: Final = Path(__file__).with_name("RESULTS.md")

Measure = Callable[[Training, int], list[float]]  # training, steps: the times at which the steps began


@dataclass(frozen=True)
class Ratio:
    """The figures of one way to watch one training."""

    case: str
    watcher: str
    pairs: int
    steps: int
    bare_ms: float  # median over the pairs
    ratio: float  # median over the pairs, watched / bare
    low: float  # 95 % interval of the median
    high: float


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def looped(training: Training, steps: int, rival: Rival | None = None) -> list[float]:
    """Train in a plain loop, bare or with a rival in it."""
    optimizer = training.optimizer()
    began: list[float] = []
    for batch in itertools.islice(itertools.cycle(training.pool), steps):
        began.append(time.perf_counter() if len(began) != WARMUP else _now())
        optimizer.zero_grad()
        training.loss(batch).backward()
        if rival is not None:
            rival.after_backward()
        optimizer.step()
    began.append(_now())
    return began


def with_rival(name: str) -> Measure:
    """Return the loop with a rival attached."""

    def measure(training: Training, steps: int) -> list[float]:
        rival = RIVALS[name](training.model)
        try:
            return looped(training, steps, rival)
        finally:
            rival.detach()

    return measure


def supervised(tracking: str | None) -> Measure:
    """Return the same training under `supervise()` with the default policy."""

    def measure(training: Training, steps: int) -> list[float]:
        began: list[float] = []

        def train_step(batch: Any) -> torch.Tensor:
            began.append(time.perf_counter() if len(began) != WARMUP else _now())
            return training.loss(batch)

        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"tracking": tracking, "run_dir": f"{folder}/run", "progress": False}
            # One step more than is measured: the last one's end is seen when the next begins.
            options |= {"model": training.model, "optimizer": training.optimizer(), "data": training.pool}
            report = supervise(train_step, steps=steps + 1, **options)
        assert not report.interventions, report.summary()
        return began

    return measure


def step_time(began: list[float]) -> float:
    """Return the mean seconds of a step after the warm-up."""
    return (began[-1] - began[WARMUP]) / (len(began) - 1 - WARMUP)


def compare(case: Case, watcher: str, watched: Measure, pairs: int) -> Ratio:
    """Measure `pairs` pairs of runs, each in the other order than the one before."""
    ratios, plain = [], []
    for number in range(pairs):
        seconds: dict[str, float] = {}
        runs: list[tuple[str, Measure]] = [("bare", looped), ("watched", watched)]
        for name, measure in runs if number % 2 else reversed(runs):
            torch.manual_seed(number)
            training = case.build()
            gc.collect()
            seconds[name] = step_time(measure(training, case.steps))
        ratios.append(seconds["watched"] / seconds["bare"])
        plain.append(1e3 * seconds["bare"])
    low, high = interval(ratios)
    bare, ratio = statistics.median(plain), statistics.median(ratios)
    return Ratio(case.name, watcher, pairs, case.steps, bare, ratio, low, high)


def interval(values: list[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(values, (4000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Measure, print the table, and write it down where asked."""
    known = cases()
    options: Any = argparse.ArgumentParser(description="What watching a training costs.")
    options.add_argument("--pairs", type=int, default=30, help="pairs of supervised and bare runs")
    options.add_argument("--rivals", type=int, default=10, help="pairs for each rival; 0 leaves them out")
    options.add_argument("--only", nargs="+", choices=list(known), default=list(known))
    options.add_argument("--untracked", type=int, help="pairs without MLflow; as many as with it if left out")
    options.add_argument("--steps", type=int, help="steps of a run; each training has its own number if left out")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    settings = options.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    torch.set_num_threads(1)
    watchers: list[tuple[str, Measure, int]] = [
        ("supervised, tracking to MLflow", supervised("mlflow"), settings.pairs),
        (
            "supervised, no tracking",
            supervised(None),
            settings.pairs if settings.untracked is None else settings.untracked,
        ),
        *((name, with_rival(name), settings.rivals) for name in RIVALS),
    ]
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as store:  # MLflow's default store lies in the working directory
        os.chdir(store)
        found = []
        for name, (watcher, watched, pairs) in itertools.product(settings.only, watchers):
            if pairs:
                case = replace(known[name], steps=settings.steps or known[name].steps)
                found.append(compare(case, watcher, watched, pairs))
                print(json.dumps(asdict(found[-1])), file=sys.stderr, flush=True)
        os.chdir(home)
    rows = [asdict(ratio) for ratio in found]
    print(json.dumps({"machine": machine(), "ratios": rows}, indent=2) if settings.json else table(machine(), rows))
    if settings.write:
        RESULTS.write_text(table(machine(), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
