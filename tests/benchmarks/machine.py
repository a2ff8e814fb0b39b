"""The machine a benchmark ran on, and its results as a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Return the facts that a figure depends on."""
    facts = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures as Markdown, the machine above them."""
    where = ", ".join(f"{name} {value}" for name, value in facts.items())
    lines = [
        "# What watching costs",
        "",
        "Time of a watched step over that of a bare one: median of pairs of runs in alternating order, and a 95 %",
        "bootstrap interval of it. Made by `python tests/benchmarks/overhead.py --write`; its text says what counts.",
        "The reference's monitor reads the norm of every gradient with `.item()` in every step and, in a hook",
        "behind every activation module, the share of zeros. The histograms have 64 bins, one for each parameter,",
        "read back to the host; `wandb.watch` makes them every 1000th backward pass unless told otherwise.",
        "",
        f"Machine: {where}.",
        "",
        "| training | watched by | bare step, ms | watched / bare | 95 % interval | pairs x steps |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> str:
    figures = (f"{row['bare_ms']:.2f}", f"{row['ratio']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
    return f"| {row['case']} | {row['watcher']} | {' | '.join(figures)} | {row['pairs']} x {row['steps']} |"
