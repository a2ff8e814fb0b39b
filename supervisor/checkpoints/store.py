"""Checkpoints on disk: whole or not at all, checked before they are believed, and the last good one stays.

A checkpoint is a file of plain data and tensors, read back with `weights_only=True`, and beside it a line of JSON with
its sha256. Both are written under another name, flushed to the disk and renamed, the data first: a file without its
line was never finished. One process writes into a folder at a time; within it, any thread may.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from supervisor.checkpoints.document import Document, checkpoint_of, document_of
from supervisor.checkpoints.files import DATA, LINE, UNFINISHED, VERSION, Entry, content_of, entry_of, put
from supervisor.checkpoints.state import Checkpoint, restore
from supervisor.run import TrainingRun


@dataclass(frozen=True)
class Saved:
    """What became of a save. Never an exception: a full disk must not end a training."""

    status: Literal["saved", "refused", "failed"]
    path: Path | None = None
    why: str = ""  # where it was not saved
    notes: tuple[str, ...] = ()  # what is no plain data, and was left out


@dataclass(frozen=True)
class Loaded:
    """A checkpoint read back."""

    path: Path
    entry: Entry
    content: Mapping[str, Any]
    notes: tuple[str, ...]  # files that were passed over, and why

    @property
    def model_changes(self) -> list[Mapping[str, Any]]:
        """The surgeries done before it was saved: `rebuild(model, ...)` a fresh model with them first."""
        return list(self.content["model_changes"])

    @property
    def more(self) -> Mapping[str, Any]:
        """What was saved along with it."""
        return dict(self.content["more"])

    def restore(self, run: TrainingRun) -> None:
        """Put a run of the same code into this state, its clocks too; the tick never falls.

        UsageError where the run is not built as the saved one was; nothing was changed then.
        """
        restore(run, checkpoint_of(run, self.content))
        run.clock.tick = max(run.clock.tick, self.entry.tick)


class Store:
    """Checkpoints in `folder`: the newest `keep`, and always the newest good one."""

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), max(1, keep)
        self._lock = threading.Lock()

    def save(
        self, run: TrainingRun, checkpoint: Checkpoint, *,
        good: bool = True, unresolved: str = "", more: Mapping[str, Any] | None = None,
    ) -> Saved:  # fmt: skip
        """Write `checkpoint`, a state of `run`, and let older ones go.

        `unresolved` names what is non-finite and not dealt with yet: refused then, because a restart must not begin
        there. `more` is plain data that goes along. To write from another thread, make the document here with
        `document_of` and `write` it there: it holds the checkpoint's memory as long as it takes.
        """
        if unresolved:
            return Saved("refused", why=f"not saved: {unresolved} is unresolved. Save again once it is dealt with")
        try:
            document = document_of(run, checkpoint, more)
        except Exception as error:  # noqa: BLE001 - as with write
            return Saved("failed", why=f"checkpoint of tick {checkpoint.tick} not saved: {error!r}")
        return self.write(document, good=good)

    def write(self, document: Document, *, good: bool = True) -> Saved:
        """Write a document; safe in any thread."""
        with self._lock:
            path = self.folder / f"{self._next():06d}-tick{document.tick}{DATA}"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._clear_unfinished()
                digest, size = put(path, lambda file: torch.save(document.content, file))
                line = asdict(Entry(path.name, document.tick, document.step, good, size, digest)) | {"version": VERSION}
                put(path.with_suffix(LINE), lambda file: file.write(json.dumps(line).encode()))
                self._rotate()
            except Exception as error:  # noqa: BLE001 - a full disk, lost rights, a device error: none may end the run
                why = f"{path}: not saved: {error}. Is the disk full, or the folder not writable?"
                return Saved("failed", why=why, notes=document.left_out)
        return Saved("saved", path, notes=document.left_out)

    def _next(self) -> int:
        numbers = [path.name.partition("-")[0] for path in self.folder.glob(f"*-tick*{DATA}")]
        return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)

    def _clear_unfinished(self) -> None:
        """Remove what an earlier process did not come to finish."""
        lost = [path for path in self.folder.glob(f"*-tick*{DATA}") if not path.with_suffix(LINE).exists()]
        for path in (*lost, *self.folder.glob(f"*{UNFINISHED}")):
            path.unlink(missing_ok=True)

    def _rotate(self) -> None:
        """Remove what is older than the newest `keep`; never the newest good one that is whole."""
        entries = [(path, entry) for path in self._newest_first() if isinstance(entry := entry_of(path), Entry)]
        good = next((path for path, entry in entries if entry.good and path.stat().st_size == entry.size), None)
        for path, _ in entries[self.keep :]:
            if path != good:
                path.with_suffix(LINE).unlink(missing_ok=True)  # first: a file without it counts as never finished
                path.unlink(missing_ok=True)

    def _newest_first(self) -> Iterator[Path]:
        yield from sorted(self.folder.glob(f"*-tick*{DATA}"), reverse=True)

    def load(self, *, good: bool = False) -> Loaded | None:
        """Return the newest checkpoint that is whole (of the good ones alone, if asked), None if there is none.

        What is torn or changed is passed over, with a note.
        """
        notes: list[str] = []
        for path in self._newest_first():
            found = entry_of(path)
            content = content_of(path, found) if isinstance(found, Entry) and (found.good or not good) else found
            if isinstance(found, Entry) and isinstance(content, dict):
                return Loaded(path, found, content, tuple(notes))
            if isinstance(content, str):
                notes.append(f"{path}: {content}; passed over")
        return None
