"""Recorded runs, written the way a live run writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from supervisor.recording.metrics import MetricsWriter
from supervisor.records import Anatomy, Layer, Snapshot

ANATOMY = Anatomy((Layer("fc1", "linear", 40), Layer("fc2", "linear", 20)))


def record(run_dir: Path, ticks: int, spikes: Mapping[int, float], seed: int = 0) -> Path:
    """Record a falling loss; at the ticks of `spikes` gradients and loss are that many times what is usual."""
    generator = np.random.default_rng(seed)
    writer = MetricsWriter(run_dir)
    for tick in range(1, ticks + 1):
        factor = spikes.get(tick, 1.0)
        norms = (factor * 10.0 ** generator.normal(0.0, 0.05, size=2)).astype(np.float32)
        loss = factor * (0.5 + float(np.exp(-tick / 100))) * float(generator.normal(1.0, 0.02))
        total = float(np.float32(np.linalg.norm(norms)))
        writer.append(Snapshot(tick, tick, float(np.float32(loss)), 0.1, total, norms, ANATOMY))
    writer.close()
    return run_dir


def restless(run_dir: Path) -> Path:
    """Record a healthy run whose batches are now and then hard: spikes that pass by themselves."""
    return record(run_dir, 300, dict.fromkeys(range(50, 300, 40), 10.0))


def exploding(run_dir: Path, onset: int = 150) -> Path:
    """Record a run that explodes from `onset` on."""
    return record(run_dir, 200, dict.fromkeys(range(onset, 201), 5000.0), seed=1)
