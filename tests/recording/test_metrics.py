"""Every tick's figures come back as they were seen."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.errors import JournalError
from supervisor.recording.metrics import GATHERED, MetricsRecorder, MetricsWriter, read_curves, read_snapshots
from supervisor.records import ORIGINS, Anatomy, Layer, Sample, Site, Snapshot, sample_shapes

LAYERS = (Layer("a", "linear", 12), Layer("b", "conv", 4))
SITE = Site("act", "relu", "act", (), "a", 3, hidden=True, gate=False, consumers=("b",))
ANATOMY = Anatomy(LAYERS, (SITE,))

figure = st.floats(width=32)


def row(*shape: int) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    count = int(np.prod(shape))
    return st.lists(figure, min_size=count, max_size=count).map(lambda v: np.array(v, np.float32).reshape(shape))


samples = st.builds(Sample, **{name: row(*shape) for name, shape in sample_shapes(2, 1).items()})
shots = st.builds(
    Snapshot,
    tick=st.integers(1, 10**9),
    step=st.integers(0, 10**9),
    loss=figure,
    lr=figure,
    grad_norm=figure,
    grad_norms=row(2),
    anatomy=st.just(ANATOMY),
    sample=st.none() | samples,
    origin=st.sampled_from(["", *ORIGINS]),
    origin_layer=st.sampled_from(["", *(layer.name for layer in ANATOMY.layers)]),
)


def same(mine: Any, theirs: Any) -> None:
    """Compare two records field by field; NaN equals NaN."""
    for field in dataclasses.fields(mine):
        a, b = getattr(mine, field.name), getattr(theirs, field.name)
        if isinstance(a, Sample) and isinstance(b, Sample):
            same(a, b)
        elif isinstance(a, (float, np.ndarray)):
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


def written(run_dir: Path, snapshots: list[Snapshot]) -> list[Snapshot]:
    writer = MetricsWriter(run_dir)
    for now in snapshots:
        writer.append(now)
    writer.close()
    return list(read_snapshots(run_dir))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(shots, min_size=1, max_size=5, unique_by=lambda shot: shot.tick))
def test_what_is_read_equals_what_was_seen(tmp_path_factory: pytest.TempPathFactory, snapshots: list[Snapshot]) -> None:
    read = written(tmp_path_factory.mktemp("run"), snapshots)
    assert len(read) == len(snapshots)
    for mine, theirs in zip(snapshots, read, strict=True):
        same(mine, theirs)


def shot(tick: int, anatomy: Anatomy = ANATOMY) -> Snapshot:
    sites = len(anatomy.sites)
    two = np.full(2, tick, np.float32)
    sample = Sample.blank(2, sites, weight_norms=two, update_norms=two)
    return Snapshot(tick, tick, float(tick), 0.5, 1.0, two, anatomy, sample if tick % 2 else None)


def test_after_a_surgery_a_new_segment_begins(tmp_path: Path) -> None:
    other = Anatomy(LAYERS)
    read = written(tmp_path, [shot(1), shot(2), shot(3, other), shot(4, other), shot(5)])
    assert [now.tick for now in read] == [1, 2, 3, 4, 5]
    assert [now.anatomy for now in read] == [ANATOMY, ANATOMY, other, other, ANATOMY]
    assert len(list((tmp_path / "metrics").glob("*.json"))) == 3


def test_a_torn_last_row_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, [shot(1), shot(2), shot(3)])
    for name in ("0000.ticks", "0000.samples"):
        path = tmp_path / "metrics" / name
        path.write_bytes(path.read_bytes()[:-3])
    read = list(read_snapshots(tmp_path))
    assert [now.tick for now in read] == [1, 2]
    assert read[0].sample is not None


def on_disk(run_dir: Path) -> list[int]:
    return [now.tick for now in read_snapshots(run_dir)]


@pytest.mark.parametrize("by", ["a decision", "the background"])
def test_rows_go_to_disk_before_a_remedy_starts_and_from_the_background(tmp_path: Path, by: str) -> None:
    recorder = MetricsRecorder()
    recorder.open({}, tmp_path)
    recorder.snapshot(shot(1))
    recorder.snapshot(shot(2))
    if by == "a decision":
        recorder.record({"kind": "decision", "tick": 3})
    else:
        thread = threading.Thread(target=recorder.flush)
        thread.start()
        thread.join()
    assert on_disk(tmp_path) == [1, 2]
    recorder.snapshot(shot(3))
    recorder.close(None)
    assert on_disk(tmp_path) == [1, 2, 3]


def test_rows_do_not_gather_without_end(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    for tick in range(1, 3 * GATHERED):
        writer.append(shot(tick))
        assert len(writer._gathered) < GATHERED
    assert len(on_disk(tmp_path)) > GATHERED


def test_rows_written_from_two_threads_keep_their_order_and_none_is_lost(tmp_path: Path) -> None:
    writer, ticks, done = MetricsWriter(tmp_path), 2000, threading.Event()

    def keep_flushing() -> None:
        while not done.is_set():
            writer.flush()

    thread = threading.Thread(target=keep_flushing)
    thread.start()
    for tick in range(1, ticks + 1):
        writer.append(shot(tick))
    done.set()
    thread.join()
    writer.close()
    assert on_disk(tmp_path) == list(range(1, ticks + 1))


def test_a_killed_process_loses_whole_rows_only(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.recording.test_metrics import shot
from supervisor.recording.metrics import MetricsWriter
writer = MetricsWriter(Path({str(tmp_path)!r}))
for tick in range(1, 31):
    writer.append(shot(tick))
    if tick % 10 == 0 and tick < 30:
        writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", program], cwd=root, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert on_disk(tmp_path) == list(range(1, 21))


def test_the_recorder_writes_what_it_is_handed(tmp_path: Path) -> None:
    recorder = MetricsRecorder()
    recorder.snapshot(shot(1))  # not open yet: nothing to write to
    recorder.open({}, tmp_path)
    recorder.snapshot(shot(2))
    recorder.close(None)
    assert [now.tick for now in read_snapshots(tmp_path)] == [2]


def test_curves_run_through_all_segments(tmp_path: Path) -> None:
    written(tmp_path, [shot(1), shot(2, Anatomy(LAYERS)), shot(3)])
    curves = read_curves(tmp_path)
    assert curves["tick"].tolist() == [1, 2, 3]
    assert curves["loss"].tolist() == [1.0, 2.0, 3.0]


def test_a_folder_without_figures_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"no figures recorded here. Is this the folder of a supervised run\?"):
        list(read_snapshots(tmp_path))
