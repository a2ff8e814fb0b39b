"""Snapshots and evaluations as MLflow metrics on the tick axis, thinned as they come."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from typing import Final

import numpy as np

from supervisor.journal import Entry
from supervisor.recording.curves import Thinner, stride
from supervisor.records import SILENCE_LENGTHS, Anatomy, Snapshot

Point = tuple[str, float, int, int]  # key, value, time in ms, tick

LAYERS: Final = 32  # curves of single layers, at most
LAYERS_RARER: Final = 4  # times rarer than the other curves: they are many
SILENT_FOR: Final = SILENCE_LENGTHS.index(8)  # samples


class Points:
    """Turns what happens into points to send. Called on the training thread: it only computes and remembers."""

    def __init__(self, expected: int | None) -> None:
        self.expected = expected  # ticks
        self.non_finite = 0  # ticks
        self.interventions = 0
        self.trial_passes = 0
        self._thinner: Thinner[tuple[Snapshot, int]] = Thinner(expected)
        self._dead: Point | None = None
        self._keys: dict[str, str] = {}  # layer: its metric
        self._anatomy: Anatomy | None = None
        self._columns: list[tuple[int, str]] = []

    def snapshot(self, now: Snapshot) -> list[Point]:
        """Return the points of this tick that are to be sent; none for most ticks of a long run."""
        stamp = round(time.time() * 1000)
        self.non_finite += not now.finite
        if now.sample is not None and now.sample.silent.size:
            share = float(np.nanmax(np.append(now.sample.silent[:, SILENT_FOR], -1.0)))
            self._dead = ("supervisor/dead_share", share, stamp, now.tick) if share >= 0.0 else None
        if not self._thinner.offer(now.tick, (now, stamp)):
            return []
        rare = stride(now.tick * LAYERS_RARER, self.expected and self.expected * LAYERS_RARER)
        return self._points(now, stamp, layers=now.tick % rare == 0)

    def near(self, tick: int) -> list[Point]:
        """Return the points just before a decision that thinning had left out."""
        held = self._thinner.release(tick)
        return [point for now, stamp in held for point in self._points(now, stamp, layers=True)]

    def evaluation(self, entry: Entry) -> list[Point]:
        """Return an evaluation's metrics."""
        metrics, stamp = entry.get("metrics", {}), round(entry["time"] * 1000)
        return _finite((key(f"eval/{name}"), value, stamp, entry["tick"]) for name, value in metrics.items())

    def trial(self, entry: Entry) -> list[Point]:
        """Return what all trials cost so far, once one has ended."""
        if entry["phase"] != "ended":
            return []
        self.trial_passes += entry["passes"]
        stamp = round(entry["time"] * 1000)
        return [("supervisor/trial_passes", float(self.trial_passes), stamp, entry["tick"])]

    def _points(self, now: Snapshot, stamp: int, *, layers: bool) -> list[Point]:
        figures = {
            "supervisor/loss": now.loss,
            "supervisor/lr": now.lr,
            "supervisor/grad_norm": now.grad_norm,
            "supervisor/train_step": float(now.step),
            "supervisor/interventions": float(self.interventions),
        }
        if layers:
            figures |= {name: float(now.grad_norms[i]) for i, name in self._layers(now.anatomy)}
        points = _finite((name, value, stamp, now.tick) for name, value in figures.items())
        if self._dead is not None:
            points.append(self._dead)
            self._dead = None
        return points

    def _layers(self, anatomy: Anatomy) -> list[tuple[int, str]]:
        """Return (column, metric) of the layers that have a curve: spread over the depth, the same after a surgery."""
        if anatomy is self._anatomy:
            return self._columns
        count = len(anatomy.layers)
        for i in np.unique(np.linspace(0, count - 1, min(count, LAYERS)).round().astype(int)):
            if len(self._keys) < LAYERS:
                name = anatomy.layers[i].name
                self._keys.setdefault(name, key(f"layers/grad_norm/{name or 'model'}"))
        self._anatomy = anatomy
        names = [layer.name for layer in anatomy.layers]
        self._columns = [(i, self._keys[name]) for i, name in enumerate(names) if name in self._keys]
        return self._columns


def _finite(points: Iterable[tuple[str, object, int, int]]) -> list[Point]:
    """Leave out what is not finite: MLflow would show an Inf as 1.8e308."""
    return [
        (name, float(value), stamp, tick)
        for name, value, stamp, tick in points
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]


def key(name: str) -> str:
    """Return `name` as MLflow accepts it for a metric: at most 250 letters, digits and `_-. :/`, a clean path."""
    cleaned = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
    parts = [part if part.strip(".") else "_" for part in cleaned.split("/") if part]
    return "/".join(parts)[:250]
