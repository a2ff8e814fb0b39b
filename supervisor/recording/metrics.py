"""Every tick's figures on disk, as fixed-width binary rows: the file a recorded run is replayed from.

One segment per anatomy (a surgery may change the activation sites): `0000.json` names the columns,
`0000.ticks` holds a row a tick, `0000.samples` a row a sampled tick. Rows are raw bytes and read back without
parsing. Figures are float32, the precision in which the detectors saw them.

Rows gather in memory and go to disk together, in whole rows: with every decision before its remedy starts, every second
from the background, and at the end. A killed process loses the rows of its last second at most, and none that are
older than its last decision.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from supervisor.errors import JournalError
from supervisor.journal import Entry
from supervisor.records import ORIGINS, Anatomy, Layer, Sample, Site, Snapshot, sample_shapes

FOLDER: Final = "metrics"
GATHERED: Final = 1000  # rows in memory at most, where the background does not come round
_ORIGINS: Final = ("", *ORIGINS)


def _tick_dtype(anatomy: Anatomy) -> np.dtype[Any]:
    layers = len(anatomy.layers)
    return np.dtype(
        [
            ("tick", "<i8"),
            ("step", "<i8"),
            ("era", "<i4"),
            ("renewals", "<i4"),
            ("origin", "<i1"),
            ("origin_layer", "<i4"),  # -1: none
            ("loss", "<f4"),
            ("lr", "<f4"),
            ("grad_norm", "<f4"),
            ("grad_norms", "<f4", (layers,)),
        ],
    )


def _index(anatomy: Anatomy, name: str) -> int:
    return next((i for i, layer in enumerate(anatomy.layers) if layer.name == name), -1) if name else -1


def _sample_dtype(anatomy: Anatomy) -> np.dtype[Any]:
    shapes = sample_shapes(len(anatomy.layers), len(anatomy.sites))
    return np.dtype([("tick", "<i8"), *((name, "<f4", shape) for name, shape in shapes.items())])


class MetricsWriter:
    """Appends snapshots to `<run_dir>/metrics/`, from one thread. `flush` may be called from any."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self._anatomy: Anatomy | None = None
        self._segment = -1
        self._files: tuple[IO[bytes], ...] = ()  # of the ticks, of the samples
        self._gathered: deque[tuple[int, bytes]] = deque()  # which file, the row
        self._writing = threading.Lock()
        self._row = np.zeros((), _tick_dtype(Anatomy(())))  # the one that is being written, kept for the next

    def append(self, now: Snapshot) -> None:
        """Append one tick."""
        if now.anatomy is not self._anatomy and now.anatomy != self._anatomy:
            self._start_segment(now.anatomy)
        self._anatomy = now.anatomy
        origin = (_ORIGINS.index(now.origin), _index(now.anatomy, now.origin_layer))
        counts = (now.tick, now.step, now.era, now.renewals)
        self._row[()] = (*counts, *origin, now.loss, now.lr, now.grad_norm, now.grad_norms)
        self._gathered.append((0, self._row.tobytes()))
        if (sample := now.sample) is not None:
            names = self._sample_dtype.names or ()
            figures = (now.tick, *(getattr(sample, name) for name in names[1:]))
            self._gathered.append((1, np.array(figures, dtype=self._sample_dtype).tobytes()))
        if len(self._gathered) >= GATHERED:
            self.flush()

    def _start_segment(self, anatomy: Anatomy) -> None:
        self.close()
        self._segment += 1
        stem = self.folder / f"{self._segment:04d}"
        stem.with_suffix(".json").write_text(json.dumps(dataclasses.asdict(anatomy)), encoding="utf-8")
        self._row, self._sample_dtype = np.zeros((), _tick_dtype(anatomy)), _sample_dtype(anatomy)
        # Unbuffered: what a file object holds back, a forked child would write a second time when it ends.
        self._files = tuple(stem.with_suffix(end).open("ab", buffering=0) for end in (".ticks", ".samples"))

    def flush(self) -> None:
        """Write out what has gathered."""
        with self._writing:
            rows = [self._gathered.popleft() for _ in range(len(self._gathered))]
            for number, file in enumerate(self._files):
                file.write(b"".join(row for which, row in rows if which == number))

    def close(self) -> None:
        """Write out the rest, and close the files."""
        self.flush()
        for file in self._files:
            file.close()
        self._files = ()


class MetricsRecorder:
    """The figures on disk as a Recorder."""

    run_id: str | None = None

    def __init__(self) -> None:
        self._writer: MetricsWriter | None = None

    def open(self, start: Entry, run_dir: Path) -> None:  # noqa: ARG002 - the protocol's
        """Create the folder."""
        self._writer = MetricsWriter(run_dir)

    def record(self, entry: Entry) -> None:
        """Leave the lines to the journal; what a decision was based on goes to disk before it is carried out."""
        if entry["kind"] == "decision":
            self.flush()

    def snapshot(self, snapshot: Snapshot) -> None:
        """Append one tick."""
        if self._writer is not None:
            self._writer.append(snapshot)

    def flush(self) -> None:
        """Write out what has gathered."""
        if self._writer is not None:
            self._writer.flush()

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
    return Anatomy(layers, sites, facts["skips"], facts["mismatch"], facts["adaptive"])


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
                era=int(row["era"]),
                renewals=int(row["renewals"]),
                origin=_ORIGINS[int(row["origin"])],
                origin_layer=anatomy.layers[int(row["origin_layer"])].name if row["origin_layer"] >= 0 else "",
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
