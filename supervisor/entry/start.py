"""What is written before the first decision: where the run is kept, what it is, what may be done to it."""

from __future__ import annotations

import hashlib
import platform
import secrets
import time
from pathlib import Path
from typing import Any, Final

import torch

from supervisor.entry.training import Training
from supervisor.errors import UsageError
from supervisor.journal import FILE_NAME, Recorder, Tape
from supervisor.policy import Policy
from supervisor.recording.metrics import MetricsRecorder
from supervisor.records import REFLEXES, plain
from supervisor.registry import service
from supervisor.run import TrainingRun

RUNS: Final = Path("supervisor_runs")


def new_run_dir(training: Training) -> Path:
    """Return the run's folder, not created yet. UsageError if a run is recorded there."""
    if training.run_dir is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = f"{stamp}-{type(training.model).__name__}-{secrets.token_hex(2)}"
        return (RUNS / name).absolute()
    run_dir = Path(training.run_dir).absolute()
    if run_dir.exists() and not run_dir.is_dir():
        message = f"run_dir: {run_dir} is a file. Give a folder, existing or not"
        raise UsageError(message)
    if (run_dir / FILE_NAME).exists():
        message = f"run_dir: {run_dir} holds a recorded run already. Give another folder, or remove it"
        raise UsageError(message)
    return run_dir


def recorders_of(training: Training) -> list[Recorder]:
    """Return what mirrors the journal: the figures on disk, and what `tracking` asks for."""
    recorders: list[Recorder] = [MetricsRecorder()]
    if training.tracking == "mlflow":
        recorders.append(service("mlflow")())
    elif training.tracking is not None and not isinstance(training.tracking, str):
        recorders.append(training.tracking)
    return recorders


def start_facts(training: Training, run: TrainingRun, policy: Policy, run_dir: Path) -> dict[str, Any]:
    """Return the journal's start line: the run in plain data."""
    text = policy.to_yaml()
    return {
        "version": 1,
        "name": run_dir.name,
        "policy": policy.name,
        "policy_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
        "policy_yaml": text,
        "model": type(run.model).__name__,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "trained_parameters": sum(p.numel() for p in run.parameters),
        "optimizer": ", ".join(type(optimizer).__name__ for optimizer in run.optimizers),
        "scheduler": type(run.scheduler).__name__ if run.scheduler is not None else None,
        "lr": run.lr,
        "steps": training.steps,
        "epochs": training.epochs,
        "accumulate": training.accumulate,
        "seed": training.seed,
        "device": str(run.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def write_capabilities(tape: Tape, run: TrainingRun, policy: Policy) -> None:
    """Write what the supervisor can do here, and which reflexes it is authorised to use."""
    frozen = sum(1 for p in run.model.parameters() if not p.requires_grad)
    trained = {id(p) for p in run.parameters}
    left_out = [name for name, p in run.model.named_parameters() if p.requires_grad and id(p) not in trained]
    facts = {
        "form": "owned",
        "remedies": sorted(policy.remedies),
        "frozen_parameters": frozen,
        "not_in_optimizer": left_out,
        "context": plain(policy.context),
    }
    tape.line("capability", facts)
    for sentence in policy.context.told():
        tape.note(sentence)
    if left_out:
        shown = ", ".join(left_out[:5]) + (" ..." if len(left_out) > 5 else "")
        tape.note(f"{len(left_out)} trainable parameters are in no optimizer and will not be trained: {shown}")
    for remedy in sorted(policy.remedies & REFLEXES):
        tape.line("standing", {"remedy": remedy, "policy": policy.name})
