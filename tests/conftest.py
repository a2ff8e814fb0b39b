"""Every test starts in a folder of its own, without the MLflow settings of whoever runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before anything imports mlflow
torch.set_num_threads(1)  # tiny models are faster so, and workers do not fight over the cores

KEPT = {"MLFLOW_DISABLE_TELEMETRY"}


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a fresh folder, so that no `mlflow.db` lands in the repository and none is shared."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MLFLOW_") and name not in KEPT:
            monkeypatch.delenv(name)
