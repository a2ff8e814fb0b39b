"""What earlier runs of the same project tell of the rungs: the journals beside the new run's folder, read once.

Only with `order: learned`. The newest runs are read, within bounds, so that no number of them delays a training; a
journal that is torn in its middle, or none of ours, is left out and named.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from supervisor.errors import SupervisorError
from supervisor.journal import FILE_NAME, Entry, read_journal
from supervisor.policy import Policy, Rung
from supervisor.policy.learned import WEIGHTS, Table, signature
from supervisor.policy.ledger import RELAPSE
from supervisor.policy.loader import loads

MOST_RUNS: Final = 200  # the newest
MOST_BYTES: Final = 32 * 2**20  # of all journals together: about half a second
MOST_POLICIES: Final = 20  # different ones: about a second
NAMED: Final = 3  # journals left out that a note names

Seen = tuple[str, str, int, str]
"""Pathology, suspected cause, rung as its policy numbers it, and what became of it."""

Ladders = dict[str, tuple[Rung, ...]]


@dataclass(frozen=True)
class Earlier:
    """What earlier runs tell."""

    table: Table = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    start: Entry = field(default_factory=dict)  # what the new run's start line holds of it


def earlier_runs(policy: Policy, run_dir: Path) -> Earlier:
    """Return what the runs beside `run_dir` tell; nothing where the policy does not ask for it. Never raises."""
    if policy.order != "learned":
        return Earlier()
    reading = _Reading()
    for path in _newest(run_dir):
        reading.read(path)
    table = {
        pathology: {cause: {rung: dict(counts) for rung, counts in rungs.items()} for cause, rungs in causes.items()}
        for pathology, causes in reading.table.items()
    }
    return Earlier(table, tuple(reading.told()), {"order_table": table})


def _newest(run_dir: Path) -> list[Path]:
    """Return the journals beside that of `run_dir`, the newest first."""
    try:
        beside = [path for path in run_dir.parent.glob(f"*/{FILE_NAME}") if path.is_file() and path.parent != run_dir]
        return heapq.nlargest(MOST_RUNS, beside, key=lambda path: path.stat().st_mtime)
    except OSError:
        return []  # a folder that nobody may look into, or that went meanwhile


class _Reading:
    """Adds up journals."""

    def __init__(self) -> None:
        self.table: dict[str, dict[str, dict[str, Counter[str]]]] = {}
        self.runs = 0
        self._left_out: list[str] = []
        self._bytes = 0
        self._ladders: dict[str, Ladders] = {}  # by the policy's text

    def read(self, path: Path) -> None:
        """Add what one journal tells, all of it or nothing."""
        try:
            self._bytes += path.stat().st_size
            if self._bytes > MOST_BYTES:
                self._bytes -= path.stat().st_size
                message = f"journals of {MOST_BYTES // 2**20} MiB were read already"
                raise SupervisorError(message)  # noqa: TRY301 - one place that tells what is left out
            seen = self._signed(list(read_journal(path)))
        except Exception as error:  # noqa: BLE001 - whatever lies beside the run must not keep it from starting
            ours = isinstance(error, SupervisorError)
            why = str(error).partition("\n")[0] if ours else f"not as a journal is ({error!r:.100})"
            self._left_out.append(f"{path.parent.name}: {why}")
            return
        self.runs += 1
        for pathology, cause, rung, what in seen:
            self.table.setdefault(pathology, {}).setdefault(cause, {}).setdefault(rung, Counter())[what] += 1

    def _signed(self, lines: Sequence[Entry]) -> list[tuple[str, str, str, str]]:
        """Return what became of rungs, by their signature. What is no rung of a ladder, as the guard, is none."""
        text = str(lines[0]["policy_yaml"]) if lines and lines[0]["kind"] == "start" else ""
        if not text:
            message = "no start line of a supervised run"
            raise SupervisorError(message)
        seen = list(_outcomes(lines))
        ladders = self._ladders_of(text) if seen else {}
        return [
            (pathology, cause, signature(ladders[pathology][rung]), what)
            for pathology, cause, rung, what in seen
            if 0 <= rung < len(ladders.get(pathology, ()))
        ]

    def _ladders_of(self, text: str) -> Ladders:
        if text not in self._ladders:
            if len(self._ladders) >= MOST_POLICIES:
                message = f"{MOST_POLICIES} other policies were read already"
                raise SupervisorError(message)
            self._ladders[text] = dict(loads(text).respond)
        return self._ladders[text]

    def told(self) -> Iterator[str]:
        """Yield sentences for the reader."""
        yield f"learned order: {self.runs} earlier runs beside this one were read"
        if self._left_out:
            more = f" and {len(self._left_out) - NAMED} more" if len(self._left_out) > NAMED else ""
            yield f"learned order: left out {'; '.join(self._left_out[:NAMED])}{more}"


def _outcomes(lines: Sequence[Entry]) -> Iterator[Seen]:
    """Yield what became of rungs in trials and after their probation.

    A trial stands under the cause that its winner was decided for; without one, under that suspected last.
    """
    decided: dict[str, dict[str, Any]] = {line["id"]: line for line in lines if line["kind"] == "decision"}
    answered = {(d["finding"]["pathology"], d["tick"]): str(d["finding"]["cause"]) for d in decided.values()}
    suspected: dict[str, str] = {}
    for line in lines:
        if line["kind"] == "finding":
            suspected[line["pathology"]] = str(line["cause"])
        elif line["kind"] == "decision":
            suspected[line["finding"]["pathology"]] = str(line["finding"]["cause"])
        elif line["kind"] == "trial" and line["phase"] == "ended":
            pathology = line["pathology"]
            cause = answered.get((pathology, line["tick"])) or suspected[pathology]
            for arm in line["arms"]:
                if arm["result"] in WEIGHTS:
                    yield pathology, cause, int(arm["rung"]), arm["result"]
        elif line["kind"] == "verdict" and line["status"] in WEIGHTS and line["decisions"]:
            first = decided[line["decisions"][0]]
            relapsed = line["status"] == "resolved" and _found_again(lines, line["pathology"], line["tick"])
            became = "persisted" if relapsed else line["status"]
            yield line["pathology"], str(first["finding"]["cause"]), int(first["rung"]), became


def _found_again(lines: Sequence[Entry], pathology: str, tick: int) -> bool:
    """Return whether an illness that was called over at `tick` came back: then the remedy had not cured it."""
    found = (line["tick"] for line in lines if line["kind"] == "finding" and line["pathology"] == pathology)
    return any(tick < later <= tick + RELAPSE for later in found)
