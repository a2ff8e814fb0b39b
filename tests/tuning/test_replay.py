from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.diagnoses.examiner import build_detectors
from supervisor.errors import UsageError
from supervisor.recording.metrics import read_snapshots
from supervisor.tuning.replay import Recording, findings, replay
from tests.tuning.recorded import exploding, record


def test_a_recorded_run_shows_its_fault_from_the_onset_on(tmp_path: Path) -> None:
    run = exploding(tmp_path, onset=150)

    seen = replay(read_snapshots(run), build_detectors({}))

    assert {finding.pathology for finding in seen} == {"exploding_gradients"}
    assert min(finding.tick for finding in seen) == 150


def test_replaying_twice_gives_equal_findings(tmp_path: Path) -> None:
    run = exploding(tmp_path)

    assert replay(read_snapshots(run), build_detectors({})) == replay(read_snapshots(run), build_detectors({}))


def test_a_quiet_run_replays_without_a_finding(tmp_path: Path) -> None:
    run = record(tmp_path, 200, {})

    assert replay(read_snapshots(run), build_detectors({})) == []


def test_findings_come_while_the_run_is_read(tmp_path: Path) -> None:
    """Whoever has seen enough reads no further."""
    ticks = iter(tuple(read_snapshots(exploding(tmp_path, onset=150))))

    first = next(findings(ticks, build_detectors({})))

    assert first.tick == 150
    assert next(ticks).tick == 151


def test_healthy_ticks_are_those_before_the_onset(tmp_path: Path) -> None:
    run = record(tmp_path, 100, {})

    assert Recording.read(run).healthy_ticks == 100
    assert Recording.read(run, onset=31).healthy_ticks == 30


@pytest.mark.parametrize("onset", [0, 101])
def test_an_onset_outside_the_run_names_the_ticks_there_are(tmp_path: Path, onset: int) -> None:
    run = record(tmp_path, 100, {})

    with pytest.raises(UsageError, match=rf"onset {onset} is outside the run\. Give a tick from 1 to 100"):
        Recording.read(run, onset)


def test_a_folder_without_figures_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no figures recorded here"):
        Recording.read(tmp_path / "elsewhere")


def test_a_run_without_a_tick_is_named(tmp_path: Path) -> None:
    """A process killed before its first row leaves the columns' names and nothing else."""
    run = record(tmp_path, 1, {})
    for rows in (run / "metrics").glob("*.ticks"):
        rows.write_bytes(b"")

    with pytest.raises(UsageError, match="not recorded a single tick"):
        Recording.read(run)
