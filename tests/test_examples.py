"""The examples keep what they say: run as a person runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *options: str, uri: str | None = None) -> str:
    environment = {**os.environ} | ({"MLFLOW_TRACKING_URI": uri} if uri else {})
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def scores(told: str) -> dict[str, float]:
    found = re.findall(r"^  (unsupervised|supervised|healthy twin) +([\d.]+)", told, re.MULTILINE)
    return {name: float(score) for name, score in found}


def test_the_deep_sigmoid_network_learns_and_mlflow_and_journal_tell_the_same(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    told = run("deep_sigmoid", uri=uri)
    found = scores(told)
    assert found["unsupervised"] < 0.15
    assert found["supervised"] >= 0.90
    assert f"mlflow ui --backend-store-uri {uri}" in told

    (journal,) = tmp_path.glob("supervisor_runs/*/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    decided = [(line["id"], line["tick"], line["remedy"]) for line in lines if line["kind"] == "decision"]
    client = mlflow.MlflowClient(tracking_uri=uri)
    (mirrored,) = client.search_runs(["0"])
    assert mirrored.data.tags["supervisor.health"] == "recovered"
    assert mirrored.info.status == "FINISHED"
    table = json.loads(Path(client.download_artifacts(mirrored.info.run_id, "decisions.json")).read_text())
    columns = [table["columns"].index(name) for name in ("id", "tick", "remedy")]
    assert [tuple(row[i] for i in columns) for row in table["data"]] == decided
    files = {file.path for file in client.list_artifacts(mirrored.info.run_id)}
    assert {"policy.yaml", "timeline.png", "review.html", "journal.jsonl"} <= files


@pytest.mark.parametrize("name", ["dead_relu", "exploding_rnn"])
def test_a_sick_training_comes_within_five_points_of_its_healthy_twin(name: str) -> None:
    found = scores(run(name, "--no-mlflow"))
    assert found["unsupervised"] < 0.3
    assert found["supervised"] >= found["healthy twin"] - 0.05


def test_a_healthy_training_is_left_alone_bit_for_bit() -> None:
    told = run("healthy", "--no-mlflow").strip().splitlines()
    assert len(told) == 3
    for line in told:
        assert "healthy, 0 interventions" in line
        assert "bit for bit identical" in line
