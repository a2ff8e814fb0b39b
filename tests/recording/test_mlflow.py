"""The mirror, against real SQLite stores and real sockets."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from supervisor.journal import read_journal
from supervisor.recording.mlflow import MlflowRecorder
from supervisor.recording.review import find_run, story_of

Start = Callable[..., Any]

ARM = {"name": "lower_lr", "reason": "told", "score": math.nan, "figure": math.nan, "pace": math.nan}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a real store; its tables take a second to create, so the tests share it."""
    folder = tmp_path_factory.mktemp("store")
    before = Path.cwd()
    os.chdir(folder)  # where a new store puts its artifacts
    try:
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    finally:
        os.chdir(before)
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return MlflowClient(database)


def curve(client: MlflowClient, run_id: str, key: str) -> dict[int, float]:
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, key)}


def table(client: MlflowClient, run_id: str) -> list[dict[str, Any]]:
    content = json.loads(Path(client.download_artifacts(run_id, "decisions.json")).read_text(encoding="utf-8"))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def troubled(run: Any) -> Any:
    """Let the run have an incident that took two rungs."""
    run.ticks(1, 20)
    finding = run.find(20, "exploding_gradients", value=41.3, limit=6.2)
    first = run.decide(finding, 20, "clip_norm", changes={"grad_norm": (41.3, 6.2)})
    run.ticks(21, 40)
    run.judge(first, 40, "persisted")
    second = run.decide(finding, 41, "lower_lr", "rollback", rung=1, changes={"lr": (3e-4, 1.5e-4)})
    run.ticks(41, 60)
    run.judge(second, 60, "resolved")
    return run


def test_the_run_and_the_journal_tell_the_same_decisions(client: MlflowClient, start_run: Start) -> None:
    recorder = MlflowRecorder()
    run = troubled(start_run(recorder))
    recorder.flush()
    run.end()

    told = table(client, recorder.run_id or "")
    journal = [entry for entry in read_journal(run.folder) if entry["kind"] == "decision"]
    assert [(row["id"], row["tick"], row["remedy"], row["reason"]) for row in told] == [
        (entry["id"], entry["tick"], entry["remedy"], entry["reason"]) for entry in journal
    ]
    assert [row["verdict"] for row in told] == ["persisted", "resolved", "resolved"]


def test_a_run_of_our_own_holds_parameters_tags_files_and_curves(client: MlflowClient, start_run: Start) -> None:
    recorder = MlflowRecorder()
    run = troubled(start_run(recorder))
    run.evaluate(60, loss=0.4, accuracy=0.9)
    run.end()

    data = client.get_run(recorder.run_id or "").data
    assert data.params["supervisor.optimizer"] == "Adam"
    assert data.params["supervisor.version.torch"] == "2.13.0"
    assert data.tags["supervisor.health"] == "recovered"
    assert data.tags["supervisor.interventions"] == "3"
    assert data.tags["supervisor.pathologies"] == "exploding_gradients"
    assert data.tags["supervisor.run_dir"] == str(run.folder)
    files = {item.path for item in client.list_artifacts(recorder.run_id or "")}
    assert files == {"policy.yaml", "decisions.json", "journal.jsonl", "timeline.png", "review.html"}
    losses = curve(client, recorder.run_id or "", "supervisor/loss")
    assert losses == {shot.tick: shot.loss for shot in run.shots}
    assert curve(client, recorder.run_id or "", "eval/accuracy") == {60: 0.9}
    assert curve(client, recorder.run_id or "", "supervisor/interventions")[60] == 3
    assert curve(client, recorder.run_id or "", "supervisor/dead_share")[10] == 0.25
    assert curve(client, recorder.run_id or "", "layers/grad_norm/net.2")


def test_the_mirror_holds_the_arms_of_all_trials(client: MlflowClient, start_run: Start) -> None:
    recorder = MlflowRecorder()
    run = start_run(recorder)
    run.ticks(1, 40)
    run.find(40, "dead_units", value=0.6, limit=0.3)
    run.hold(40, "dead_units", {**ARM, "rung": 0, "result": "lost", "losses": [2.4, math.inf]}, steps=2)
    recorder.flush()
    listed = json.loads(client.get_run(recorder.run_id or "").data.tags["mlflow.loggedArtifacts"])
    assert [table["path"] for table in listed] == ["decisions.json", "trials.json"]
    run.hold(41, "dead_units", {**ARM, "rung": 1, "result": "won", "losses": [2.0, 1.9]}, winner=1, steps=2)
    run.end()

    content = json.loads(Path(client.download_artifacts(recorder.run_id or "", "trials.json")).read_text("utf-8"))
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    told = [(row["trial"], row["arm"], row["result"], row["ended"]) for row in rows]
    assert told == [
        ("t1", "doing nothing", "control", 2.3),
        ("t1", "lower_lr", "lost", None),
        ("t2", "lower_lr", "carried out", 1.95),
        ("t2", "doing nothing", "control", 2.3),
    ]
    assert curve(client, recorder.run_id or "", "supervisor/trial_passes") == {40: 4, 41: 8}
    assert client.get_run(recorder.run_id or "").data.tags["supervisor.trials"] == "2"


def test_the_description_begins_with_the_verdict_and_shows_the_timeline(client: MlflowClient, start_run: Start) -> None:
    recorder = MlflowRecorder()
    troubled(start_run(recorder)).end()
    note = client.get_run(recorder.run_id or "").data.tags["mlflow.note.content"]
    assert note.startswith("**recovered after 3 interventions")
    assert f"/get-artifact?path=timeline.png&run_uuid={recorder.run_id}" in note
    assert "exploding" in note


@pytest.mark.parametrize(
    ("status", "expected"),
    [("completed", "FINISHED"), ("stopped", "FINISHED"), ("failed", "FAILED"), ("interrupted", "KILLED")],
)
def test_a_run_of_our_own_ends_as_the_training_did(
    client: MlflowClient, start_run: Start, status: str, expected: str
) -> None:
    recorder = MlflowRecorder()
    run = start_run(recorder)
    run.ticks(1, 3)
    run.end(status=status, health="healthy")
    assert client.get_run(recorder.run_id or "").info.status == expected


def test_the_callers_active_run_is_used_and_left_as_found(client: MlflowClient, start_run: Start) -> None:
    with mlflow.start_run(description="My own words.") as active:
        mlflow.log_param("lr", 0.1)
        recorder = MlflowRecorder()
        troubled(start_run(recorder)).end(status="failed")

        assert recorder.run_id == active.info.run_id
        still = mlflow.active_run()
        assert still is not None
        assert still.info.run_id == active.info.run_id
        found = client.get_run(active.info.run_id)
        assert found.info.status == "RUNNING"
        assert found.data.params["lr"] == "0.1"
        assert found.data.tags["mlflow.note.content"].startswith("My own words.")
        assert "recovered after 3 interventions" in found.data.tags["mlflow.note.content"]
        mlflow.log_param("optimizer", "mine")  # the supervisor took no name a user may want
    assert client.get_run(active.info.run_id).info.status == "FINISHED"


def test_two_trainings_in_one_active_run_do_not_disturb_each_other(
    client: MlflowClient, start_run: Start, tmp_path: Path
) -> None:
    with mlflow.start_run() as active:
        for number in (1, 2):
            recorder = MlflowRecorder()
            run = start_run(recorder, folder=tmp_path / str(number), policy=f"policy-{number}")
            run.ticks(1, 3)
            run.end(health="healthy")
    data = client.get_run(active.info.run_id).data
    assert data.params["supervisor.policy"] == "policy-1"  # a parameter cannot change
    assert data.tags["supervisor.run_dir"] == str(tmp_path / "2")


def test_the_run_named_by_the_environment_is_used(
    client: MlflowClient, start_run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    recorder = MlflowRecorder()
    run = start_run(recorder)
    run.ticks(1, 3)
    run.end(health="healthy")
    assert recorder.run_id == given.info.run_id
    assert client.get_run(given.info.run_id).info.status == "RUNNING"
    assert os.environ["MLFLOW_RUN_ID"] == given.info.run_id


def test_a_killed_run_still_shows_its_decisions(client: MlflowClient, start_run: Start) -> None:
    recorder = MlflowRecorder()
    run = troubled(start_run(recorder))
    recorder.flush()  # and then nothing more
    assert [row["id"] for row in table(client, recorder.run_id or "")] == ["d1", "d2", "d3"]
    assert client.get_run(recorder.run_id or "").data.tags["supervisor.status"] == "running"
    assert find_run(recorder.run_id) == run.folder


def test_values_that_are_not_finite_are_counted_and_not_sent(client: MlflowClient, start_run: Start, shot: Any) -> None:
    recorder = MlflowRecorder()
    run = start_run(recorder)
    run.ticks(1, 5)
    run.tick(shot(6, loss=math.nan, norm=math.inf))
    run.evaluate(6, loss=math.inf)
    run.end(health="unresolved")
    run_id = recorder.run_id or ""
    assert sorted(curve(client, run_id, "supervisor/loss")) == [1, 2, 3, 4, 5]
    assert sorted(curve(client, run_id, "supervisor/train_step")) == [1, 2, 3, 4, 5, 6]
    assert curve(client, run_id, "eval/loss") == {}
    assert client.get_run(run_id).data.tags["supervisor.non_finite_ticks"] == "1"


def test_a_forked_child_neither_writes_nor_ends_the_run(client: MlflowClient, start_run: Start) -> None:
    recorder = MlflowRecorder()
    run = start_run(recorder)
    run.ticks(1, 3)
    child = os.fork()
    if child == 0:
        recorder.flush()
        recorder.close(None)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert client.get_run(recorder.run_id or "").info.status == "RUNNING"
    assert curve(client, recorder.run_id or "", "supervisor/loss") == {}


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Return the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_an_unreachable_server_costs_seconds_and_one_warning(
    kind: str,
    silent_server: str,
    start_run: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9" if kind == "refused" else silent_server)
    environment = dict(os.environ)
    recorder = MlflowRecorder()
    with caplog.at_level(logging.WARNING, logger="supervisor"):
        began = time.monotonic()
        run = troubled(start_run(recorder))
        opened = time.monotonic() - began
        began = time.monotonic()
        run.end()
        closed = time.monotonic() - began
    assert opened < 3.0
    assert closed < 8.0
    assert recorder.run_id is None
    warnings = [line for line in caplog.messages if "could not be written" in line]
    assert len(warnings) == 1
    assert str(run.folder) in warnings[0]
    assert [decision["id"] for decision in story_of(run.folder)["decisions"]] == ["d1", "d2", "d3"]
    assert dict(os.environ) == environment  # the user's retry settings among it


def test_what_could_not_be_sent_is_sent_once_the_store_is_there(
    start_run: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'later' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    recorder = MlflowRecorder()
    run = troubled(start_run(recorder))
    assert recorder.run_id is None
    (tmp_path / "later").mkdir()
    run.end()
    assert len(curve(MlflowClient(uri), recorder.run_id or "", "supervisor/loss")) == 60


def test_how_to_open_names_the_store_by_its_absolute_path(
    client: MlflowClient, start_run: Start, database: str
) -> None:
    recorder = MlflowRecorder()
    assert recorder.open_command == ""
    start_run(recorder)
    command = recorder.open_command
    assert f"mlflow ui --backend-store-uri {database}" in command
    assert f"/runs/{recorder.run_id}?workflowType=machine_learning" in command
    assert recorder.tracking_uri == database
