"""The append-only truth of a run: one JSON object a line, and the protocol that mirrors of it follow.

A decision's line is on disk, fsynced, before its remedy touches anything. Everything else a person sees
(MLflow, the report, the terminal) can be rebuilt from this file and the figures in `metrics/` beside it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from supervisor.errors import JournalError
from supervisor.records import Snapshot, plain

FILE_NAME: Final = "journal.jsonl"

KINDS: Final = frozenset(
    {
        "start",
        "capability",
        "standing",
        "finding",
        "decision",
        "outcome",
        "trial",
        "verdict",
        "model_change",
        "evaluation",
        "checkpoint",
        "rating",
        "approval",
        "note",
        "end",
    },
)

DURABLE: Final = frozenset({"start", "standing", "decision", "end"})
"""Kinds that are fsynced before the call returns."""

Entry = dict[str, Any]


class Recorder(Protocol):
    """What `tracking=` accepts. Every method is called on the training thread and must return at once."""

    def open(self, start: Entry, run_dir: Path) -> None:
        """Begin to mirror a run. `start` is the journal's first line."""

    def record(self, entry: Entry) -> None:
        """Mirror one journal line."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """Mirror the figures of one tick."""

    def flush(self) -> None:
        """Send what has gathered. Called from the background, never from the training thread."""

    def close(self, report: Any) -> None:  # noqa: ANN401 - the Report of a room above
        """End the mirror, within seconds. What could not be sent stays in the journal."""

    @property
    def run_id(self) -> str | None:
        """The mirror's own name for the run, once known."""


class Journal:
    """Appends lines to `<run_dir>/journal.jsonl`."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / FILE_NAME
        try:
            self._file = self.path.open("x", encoding="utf-8")
        except FileExistsError:
            message = f"{self.path}: a run is recorded here already. Give another run_dir, or remove this one."
            raise JournalError(message) from None

    def append(self, kind: str, tick: int, step: int, data: Mapping[str, Any]) -> Entry:
        """Write one line and return it. Kinds in DURABLE are on disk when this returns."""
        if kind not in KINDS:
            message = f"journal: unknown kind {kind!r}, expected one of {', '.join(sorted(KINDS))}"
            raise ValueError(message)
        entry: Entry = {"kind": kind, "tick": tick, "step": step, "time": time.time(), **plain(data)}
        self._file.write(json.dumps(entry, allow_nan=False) + "\n")
        self._file.flush()
        if kind in DURABLE:
            os.fsync(self._file.fileno())
        return entry

    def close(self) -> None:
        """Close the file; appending afterwards is an error."""
        self._file.close()


def read_journal(run_dir: Path) -> Iterator[Entry]:
    """Yield the lines of a journal. A torn last line (the process was killed) is left out."""
    path = run_dir / FILE_NAME if run_dir.is_dir() else run_dir
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        message = f"{path}: cannot read the journal: {error.strerror}. Is this the folder of a supervised run?"
        raise JournalError(message) from None
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return
            message = f"{path}:{number}: not a JSON line ({error.msg}). The journal was edited or damaged."
            raise JournalError(message) from None
