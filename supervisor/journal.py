"""The append-only truth of a run: one JSON object a line, and the protocol that mirrors of it follow.

A decision's line is on disk, fsynced, before its remedy touches anything. Everything else a person sees
(MLflow, the report, the terminal) can be rebuilt from this file and the figures in `metrics/` beside it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

_log = logging.getLogger(__name__)


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


class Ticking(Protocol):
    """The two clocks, as the journal reads them."""

    @property
    def tick(self) -> int:
        """Attempts so far."""

    @property
    def step(self) -> int:
        """Training steps so far."""


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
        if taken := {"kind", "time"} & data.keys():
            message = f"journal: a {kind} line cannot have a field of its own called {', '.join(sorted(taken))}"
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


class Tape:
    """The journal of a run and its mirrors: one call writes to all. A mirror that fails is dropped, not raised."""

    def __init__(self, run_dir: Path, recorders: Sequence[Recorder], clock: Ticking) -> None:
        """Nothing is created before `open`."""
        self.run_dir, self.clock = run_dir, clock
        self.recorders = list(recorders)
        self.notes: list[str] = []
        self._journal: Journal | None = None

    @property
    def opened(self) -> bool:
        """Whether the start line was written."""
        return self._journal is not None

    def open(self, start: Mapping[str, Any]) -> None:
        """Create the journal, write the start line and open the mirrors."""
        self._journal = Journal(self.run_dir)
        entry = self._append("start", start)
        self._each(lambda recorder: recorder.open(entry, self.run_dir))

    def line(self, kind: str, data: Any) -> None:  # noqa: ANN401 - a record, or a mapping
        """Write one line; it is on disk, for kinds in DURABLE, before anything else happens."""
        entry = self._append(kind, plain(data))
        self._each(lambda recorder: recorder.record(entry))

    def note(self, text: str) -> None:
        """Write a sentence for the reader."""
        self.notes.append(text)
        self.line("note", {"text": text})

    def snapshot(self, now: Snapshot) -> None:
        """Hand on the figures of one tick."""
        self._each(lambda recorder: recorder.snapshot(now))

    def close(self, report: Any) -> None:  # noqa: ANN401 - the Report of a room above
        """Close the journal and the mirrors."""
        if self._journal is not None:
            self._journal.close()
        for recorder in self.recorders:
            try:
                recorder.close(report)
            except Exception:  # noqa: BLE001 - a mirror may be anyone's code
                _log.exception("%s failed while it closed; the journal is complete", type(recorder).__name__)

    def _append(self, kind: str, data: Mapping[str, Any]) -> Entry:
        if self._journal is None:
            message = "the tape is not open yet"
            raise JournalError(message)
        fields = {key: value for key, value in data.items() if key not in ("tick", "step")}
        return self._journal.append(kind, data.get("tick", self.clock.tick), data.get("step", self.clock.step), fields)

    def _each(self, call: Callable[[Recorder], None]) -> None:
        for recorder in tuple(self.recorders):
            try:
                call(recorder)
            except Exception as error:  # noqa: BLE001 - as above
                self.recorders.remove(recorder)
                _log.exception("%s failed and is dropped; the journal goes on", type(recorder).__name__)
                self._append("note", {"text": f"{type(recorder).__name__} failed and was dropped: {error!r}"})


def read_journal(run_dir: Path) -> Iterator[Entry]:
    """Yield the lines of a journal. A torn last line (the process was killed) is left out."""
    path = run_dir / FILE_NAME if run_dir.is_dir() else run_dir
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        message = f"{path}: cannot read the journal: {error.strerror}. Is this the folder of a supervised run?"
        raise JournalError(message) from None
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return
            message = f"{path}:{number}: not a JSON line ({error.msg}). The journal was edited or damaged."
            raise JournalError(message) from None
        if not isinstance(entry, dict) or "kind" not in entry:
            message = f"{path}:{number}: not a line of a journal: {line:.60}. The journal was edited or damaged."
            raise JournalError(message)
        yield entry
