"""The append-only truth of a run, and the mirrors beside it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supervisor.errors import JournalError
from supervisor.journal import FILE_NAME, Entry, Journal, Tape, read_journal
from supervisor.records import Anatomy, Finding, Snapshot
from supervisor.run import Clock

NOW = Snapshot(3, 2, 0.5, 0.1, 1.0, np.ones(1, dtype=np.float32), Anatomy(()))


class Mirror:
    """A recorder that notes what it is told, and breaks where it is asked to."""

    run_id: str | None = None

    def __init__(self, breaks_at: str = "") -> None:
        self.breaks_at = breaks_at
        self.told: list[str] = []

    def _note(self, what: str) -> None:
        if what == self.breaks_at:
            raise OSError("the store is gone")  # noqa: EM101, TRY003
        self.told.append(what)

    def open(self, start: Entry, run_dir: Path) -> None:
        self._note(start["kind"])

    def record(self, entry: Entry) -> None:
        self._note(entry["kind"])

    def snapshot(self, snapshot: Snapshot) -> None:
        self._note("snapshot")

    def flush(self) -> None:
        self._note("flush")

    def close(self, report: Any) -> None:
        self._note("close")


def written(run_dir: Path) -> list[Entry]:
    return list(read_journal(run_dir))


def test_a_line_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for kind in ("start", "decision", "note"):
        journal.append(kind, 4, 3, {"text": kind})
        assert written(tmp_path)[-1]["kind"] == kind
    assert {"tick": 4, "step": 3, "text": "start"}.items() <= written(tmp_path)[0].items()


def test_nan_and_inf_are_strings_in_strict_json(tmp_path: Path) -> None:
    numbers = {"a": math.nan, "b": [math.inf, -math.inf], "c": np.float32("nan"), "d": np.array([1.0, math.nan])}
    Journal(tmp_path).append("note", 0, 0, numbers)
    line = json.loads((tmp_path / FILE_NAME).read_text(), parse_constant=pytest.fail)
    assert [line[key] for key in "abcd"] == ["nan", ["inf", "-inf"], "nan", [1.0, "nan"]]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for tick in range(3):
        journal.append("note", tick, tick, {"text": "x" * 20})
    whole = (tmp_path / FILE_NAME).read_bytes()
    for cut in (1, 5, 40):
        (tmp_path / FILE_NAME).write_bytes(whole[:-cut])
        kept = 3 if cut == 1 else 2  # only the line break is missing: the line is whole
        assert [entry["tick"] for entry in read_journal(tmp_path)] == list(range(kept))


@pytest.mark.parametrize("damage", [b'{"kind": "no', b"\xff\xfe\x00", b"17", b"[]", b"null", b'{"tick": 3}'])
def test_a_damaged_line_in_the_middle_is_an_error_with_its_place(tmp_path: Path, damage: bytes) -> None:
    good = b'{"kind": "note", "tick": 0}\n'
    (tmp_path / FILE_NAME).write_bytes(good + damage + b"\n" + good)
    with pytest.raises(JournalError, match=rf"{FILE_NAME}:2: not a .*damaged"):
        written(tmp_path)


def test_a_missing_journal_is_an_error_with_its_place(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(JournalError, match=str(place)):
            written(place)


def test_a_recorded_run_is_never_written_over(tmp_path: Path) -> None:
    Journal(tmp_path).append("note", 0, 0, {})
    with pytest.raises(JournalError, match="recorded here already"):
        Journal(tmp_path)
    assert len(written(tmp_path)) == 1


def test_an_unknown_kind_and_a_field_that_hides_the_kind_are_mistakes_of_the_caller(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ValueError, match="unknown kind 'desicion'"):
        journal.append("desicion", 0, 0, {})
    with pytest.raises(ValueError, match="kind"):
        journal.append("model_change", 0, 0, {"kind": "swap_activation"})
    assert written(tmp_path) == []


def test_nothing_is_created_before_the_tape_is_opened(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "run", [Mirror()], Clock())
    with pytest.raises(JournalError, match="not open"):
        tape.note("too early")
    assert not tape.opened
    assert not (tmp_path / "run").exists()


def test_a_record_brings_its_own_clocks_and_a_mapping_gets_those_of_the_run(tmp_path: Path) -> None:
    tape = Tape(tmp_path, [], Clock(9, 8))
    tape.open({})
    tape.line("finding", Finding("non_finite", 3, 2, (), 1.0, "bad batch"))
    tape.note("a sentence")
    assert [(e["kind"], e["tick"], e["step"]) for e in written(tmp_path)] == [
        ("start", 9, 8), ("finding", 3, 2), ("note", 9, 8),
    ]  # fmt: skip


@pytest.mark.parametrize("breaks_at", ["start", "decision", "snapshot"])
def test_a_recorder_that_raises_is_dropped_and_the_rest_goes_on(tmp_path: Path, breaks_at: str) -> None:
    bad, good = Mirror(breaks_at), Mirror()
    tape = Tape(tmp_path, [bad, good], Clock())
    tape.open({})
    tape.line("decision", {"id": "d1"})
    tape.snapshot(NOW)
    tape.line("end", {})
    tape.close(None)
    assert tape.recorders == [good]
    assert good.told == ["start", "decision", "snapshot", "end", "close"]
    kinds = [entry["kind"] for entry in written(tmp_path)]
    assert [kind for kind in kinds if kind != "note"] == ["start", "decision", "end"]
    [note] = [entry["text"] for entry in written(tmp_path) if entry["kind"] == "note"]
    assert note == "Mirror failed and was dropped: OSError('the store is gone')"


def test_a_recorder_that_fails_while_closing_keeps_nobody_else_from_closing(tmp_path: Path) -> None:
    bad, good = Mirror("close"), Mirror()
    tape = Tape(tmp_path, [bad, good], Clock())
    tape.open({})
    tape.close(None)
    assert good.told[-1] == "close"
