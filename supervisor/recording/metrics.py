"""Every tick's figures on disk, as fixed-width binary rows: the file a recorded run is replayed from.

One segment per anatomy (a surgery may change the activation sites): `0000.json` names the columns,
`0000.ticks` holds a row a tick, `0000.samples` a row a sampled tick. A row is appended as raw bytes, which
costs a few microseconds, survives a killed process up to the last whole row, and reads back without
parsing. Figures are float32, the precision in which the detectors saw them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from supervisor.errors import JournalError
from supervisor.journal import Entry
from supervisor.records import Anatomy, Layer, Sample, Site, Snapshot, sample_shapes

FOLDER: Final = "metrics"
_ORIGINS: Final = ("", "batch", "parameters", "loss", "gradients")


def _tick_dtype(anatomy: Anatomy) -> np.dtype[Any]:
    layers = len(anatomy.layers)
    return np.dtype(
        [
            ("tick", "<i8"),
            ("step", "<i8"),
            ("origin", "<i1"),
            ("loss", "<f4"),
            ("lr", "<f4"),
            ("grad_norm", "<f4"),
            ("grad_norms", "<f4", (layers,)),
        ],
    )


def _sample_dtype(anatomy: Anatomy) -> np.dtype[Any]:
    shapes = sample_shapes(len(anatomy.layers), len(anatomy.sites))
    return np.dtype([("tick", "<i8"), *((name, "<f4", shape) for name, shape in shapes.items())])


class MetricsWriter:
    """Appends snapshots to `<run_dir>/metrics/`. Not for several threads."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self._anatomy: Anatomy | None = None
        self._segment = -1
        self._ticks: IO[bytes] | None = None
        self._samples: IO[bytes] | None = None

    def append(self, now: Snapshot) -> None:
        """Append one tick."""
        if now.anatomy is not self._anatomy and now.anatomy != self._anatomy:
            self._start_segment(now.anatomy)
        self._anatomy = now.anatomy
        assert self._ticks is not None
        assert self._samples is not None
        row = (
            now.tick, now.step, _ORIGINS.index(now.origin), now.loss, now.lr, now.grad_norm, now.grad_norms,
        )  # fmt: skip
        self._ticks.write(np.array(row, dtype=self._tick_dtype).tobytes())
        if (sample := now.sample) is not None:
            names = self._sample_dtype.names or ()
            figures = (now.tick, *(getattr(sample, name) for name in names[1:]))
            self._samples.write(np.array(figures, dtype=self._sample_dtype).tobytes())

    def _start_segment(self, anatomy: Anatomy) -> None:
        self.close()
        self._segment += 1
        stem = self.folder / f"{self._segment:04d}"
        stem.with_suffix(".json").write_text(json.dumps(dataclasses.asdict(anatomy)), encoding="utf-8")
        self._tick_dtype, self._sample_dtype = _tick_dtype(anatomy), _sample_dtype(anatomy)
        # Unbuffered: one write call a row, so that a killed process loses at most the row it was writing.
        self._ticks = stem.with_suffix(".ticks").open("ab", buffering=0)
        self._samples = stem.with_suffix(".samples").open("ab", buffering=0)

    def close(self) -> None:
        """Close the files."""
        for file in (self._ticks, self._samples):
            if file is not None:
                file.close()


class MetricsRecorder:
    """The figures on disk as a Recorder. It writes at once: a row is a few microseconds."""

    run_id: str | None = None

    def __init__(self) -> None:
        self._writer: MetricsWriter | None = None

    def open(self, start: Entry, run_dir: Path) -> None:  # noqa: ARG002 - the protocol's
        """Create the folder."""
        self._writer = MetricsWriter(run_dir)

    def record(self, entry: Entry) -> None:
        """Leave the lines to the journal."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """Append one tick."""
        if self._writer is not None:
            self._writer.append(snapshot)

    def flush(self) -> None:
        """Do nothing: every row is written at once."""

    def close(self, report: Any) -> None:  # noqa: ANN401, ARG002 - the protocol's
        """Close the files."""
        if self._writer is not None:
            self._writer.close()


def _rows(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    whole = path.stat().st_size // dtype.itemsize  # a torn last row is left out
    return np.fromfile(path, dtype=dtype, count=whole)


def _site(facts: dict[str, Any]) -> Site:
    return Site(**{**facts, "calls": tuple(facts["calls"]), "consumers": tuple(facts["consumers"])})


def _anatomy(path: Path) -> Anatomy:
    facts = json.loads(path.read_text(encoding="utf-8"))
    layers = tuple(Layer(**layer) for layer in facts["layers"])
    sites = tuple(_site(site) for site in facts["sites"])
    return Anatomy(layers, sites, facts["skips"], facts["mismatch"])


def read_snapshots(run_dir: Path) -> Iterator[Snapshot]:
    """Yield the recorded snapshots of a run in the order of their ticks, equal to those seen live."""
    segments = sorted((run_dir / FOLDER).glob("*.json"))
    if not segments:
        message = f"{run_dir / FOLDER}: no figures recorded here. Is this the folder of a supervised run?"
        raise JournalError(message)
    for path in segments:
        anatomy = _anatomy(path)
        sampled = _rows(path.with_suffix(".samples"), _sample_dtype(anatomy))
        samples = {int(row["tick"]): Sample(**{name: row[name] for name in sample_shapes(0, 0)}) for row in sampled}
        for row in _rows(path.with_suffix(".ticks"), _tick_dtype(anatomy)):
            yield Snapshot(
                tick=int(row["tick"]),
                step=int(row["step"]),
                loss=float(row["loss"]),
                lr=float(row["lr"]),
                grad_norm=float(row["grad_norm"]),
                grad_norms=row["grad_norms"],
                anatomy=anatomy,
                sample=samples.get(int(row["tick"])),
                origin=_ORIGINS[int(row["origin"])],
            )


def read_curves(run_dir: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the scalar curves of a run: tick, step, loss, lr, grad_norm, each of shape (ticks,)."""
    names = ("tick", "step", "loss", "lr", "grad_norm")
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    for path in sorted((run_dir / FOLDER).glob("*.json")):
        rows = _rows(path.with_suffix(".ticks"), _tick_dtype(_anatomy(path)))
        for name in names:
            parts[name].append(np.asarray(rows[name]))
    return {name: np.concatenate(part) if part else np.array([math.nan][:0]) for name, part in parts.items()}
