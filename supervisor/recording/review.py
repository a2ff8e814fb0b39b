"""A run told from its folder alone: also one that was killed, or whose mirror was never reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from supervisor.errors import UsageError
from supervisor.journal import FILE_NAME, Entry, read_journal
from supervisor.recording.incidents import incidents_of
from supervisor.recording.metrics import read_curves
from supervisor.records import intervened, plain

RUNS: Final = Path("supervisor_runs")
UNFINISHED: Final = "running or killed"

_RECORDS: Final = {"finding": "findings", "decision": "decisions", "outcome": "outcomes", "verdict": "verdicts"}
_LISTS: Final = {**_RECORDS, "model_change": "model_changes", "evaluation": "evaluations"}
_SCALARS: Final = (
    "status", "health", "ticks", "steps", "final_loss", "best_loss", "stop_reason", "policy", "run_id", "tracking_uri",
    "how_to_open", "trial_passes",
)  # fmt: skip


def story_of(run_dir: Path) -> dict[str, Any]:
    """Return what `Report.to_dict()` gave, from the journal. Raises JournalError if there is none.

    A run without an end line has the status "running or killed", and its figures come from `metrics/`.
    """
    story: dict[str, Any] = {name: [] for name in (*_LISTS.values(), "notes", "trials")}
    start: Entry = {}
    end: Entry | None = None
    for entry in read_journal(run_dir):
        kind = entry["kind"]
        if kind == "note":
            story["notes"].append(entry["text"])
        elif kind == "model_change":
            story["model_changes"].append(entry["change"])
        elif kind == "trial" and entry["phase"] == "ended":
            story["trials"].append(_facts(entry))
        elif kind in _LISTS:
            story[_LISTS[kind]].append(_facts(entry))
        elif kind == "start":
            start = entry
        elif kind == "end":
            end = entry
    changing = {o["decision"] for o in story["outcomes"] if intervened(o["remedy"], o["status"], o["changes"])}
    story["interventions"] = [d["id"] for d in story["decisions"] if d["id"] in changing]
    story |= {
        "run_dir": str(run_dir),
        "policy": start.get("policy", ""),
        "run_id": None,
        "tracking_uri": None,
        "how_to_open": "",
        "trial_passes": sum(trial["passes"] for trial in story["trials"]),
    }
    if end is None:
        return story | _so_far(run_dir, story)
    story |= {name: end[name] for name in _SCALARS if name in end}
    return story | {"model_changes": end.get("model_changes", [])}  # less those that a rollback took back


def _facts(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("kind", "time")}


def _so_far(run_dir: Path, story: Mapping[str, Any]) -> dict[str, Any]:
    curves = read_curves(run_dir)
    loss = curves["loss"][np.isfinite(curves["loss"])]
    open_cases = [incident for incident in incidents_of(story) if incident.status != "resolved"]
    health = "unresolved" if open_cases else "recovered" if story["findings"] else "healthy"
    ticks = curves["tick"]
    return {
        "status": UNFINISHED,
        "health": health,
        "ticks": len(ticks),
        "steps": int(curves["step"][-1]) if len(ticks) else 0,
        "final_loss": plain(float(loss[-1]) if len(loss) else math.nan),
        "best_loss": plain(float(loss.min()) if len(loss) else math.nan),
        "stop_reason": "",
    }


def find_run(run: str | None) -> Path:
    """Return a run's folder: given as a folder or an MLflow run id; None is the newest under ./supervisor_runs.

    An MLflow run id is looked up in the current tracking store. Raises UsageError if there is no such run.
    """
    if run is None:
        return _newest()
    folder = Path(run)
    for candidate in (folder, RUNS / folder):
        if (candidate / FILE_NAME).is_file():
            return candidate
    if folder.is_file() and folder.name == FILE_NAME:
        return folder.parent
    if folder.exists():
        message = f"{run}: no {FILE_NAME} in it. Give the folder of a supervised run, or an MLflow run id."
        raise UsageError(message)
    return _of_mlflow(run)


def _newest() -> Path:
    journals = [path for path in RUNS.glob(f"*/{FILE_NAME}") if path.is_file()]
    if not journals:
        message = f"no run under {RUNS.resolve()}. Give the folder of a run, or an MLflow run id."
        raise UsageError(message)
    return max(journals, key=lambda path: path.stat().st_mtime).parent


def _of_mlflow(run: str) -> Path:
    from supervisor.recording.mlflow_store import folder_of  # noqa: PLC0415 - a second of import, needed here only

    try:
        folder = folder_of(run)
    except Exception as error:  # noqa: BLE001 - whatever store, client or network raised: the run cannot be found
        reason = str(error).partition("\n")[0]
        message = f"{run!r} is neither a folder here nor a run that MLflow knows ({reason})"
        raise UsageError(message) from None
    if folder is None:
        message = f"MLflow run {run} has no tag supervisor.run_dir: it was not supervised."
        raise UsageError(message)
    if not (folder / FILE_NAME).is_file():
        message = f"MLflow run {run} was recorded in {folder}, which is not on this machine or was removed."
        raise UsageError(message)
    return folder
