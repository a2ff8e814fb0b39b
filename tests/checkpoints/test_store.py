"""Checkpoints on disk: whole, checked, rotated, and a bit-exact continuation in another process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from supervisor.checkpoints import Store, capture, restore
from supervisor.checkpoints.document import document_of
from supervisor.errors import UsageError
from supervisor.run import TrainingRun
from tests.checkpoints import resuming
from tests.entry.trainings import batches, lab, picture, run_of


def saved(store: Store, run: TrainingRun, **more: Any) -> Path:
    run.clock.tick += 1
    result = store.save(run, capture(run), **more)
    assert result.status == "saved", result.why
    assert result.path is not None
    return result.path


def small(tick: int = 0) -> TrainingRun:
    model = nn.Linear(2, 2)
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),))
    run.clock.tick = tick
    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_another_process_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Model, surgeries, both optimizers, schedule, EMA and all random numbers, into freshly built objects."""
    training = resuming.begun(7)
    assert Store(tmp_path).save(training.run, capture(training.run)).notes == ()
    losses, figures = training.train(6), training.figures()
    command = [sys.executable, resuming.__file__, str(tmp_path), "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["losses"] == losses
    assert {name for name, value in figures.items() if found["figures"].get(name) != value} == set()
    assert found["tick"] == training.run.clock.tick


@pytest.mark.parametrize("optimizer", ["adam", "adamw-fused", "sgd-momentum", "rmsprop"])
def test_what_was_loaded_is_what_was_saved(optimizer: str, tmp_path: Path) -> None:
    training, store = lab(optimizer), Store(tmp_path)
    training.bare([[batch] for batch in batches(4)])
    run = run_of(training)
    before = picture(training)
    saved(store, run)
    training.bare([[batch] for batch in batches(4)])
    loaded = store.load()
    assert loaded is not None
    loaded.restore(run)
    assert picture(training) == before


def test_the_newest_stay_and_so_does_the_last_good_one(tmp_path: Path) -> None:
    store, run = Store(tmp_path, keep=2), small()
    for good in (True, True, False, False, False):
        saved(store, run, good=good)
    stems = sorted({Path(name).stem for name in names(tmp_path)})
    assert stems == ["000002-tick2", "000004-tick4", "000005-tick5"]
    newest, good_one = store.load(), store.load(good=True)
    assert newest is not None
    assert good_one is not None
    assert (newest.entry.tick, good_one.entry.tick) == (5, 2)


def test_a_save_is_refused_while_something_non_finite_is_unresolved(tmp_path: Path) -> None:
    run = small()
    result = Store(tmp_path).save(run, capture(run), unresolved="the NaN of tick 7")
    assert (result.status, result.path) == ("refused", None)
    assert "the NaN of tick 7" in result.why
    assert names(tmp_path) == []


@pytest.mark.parametrize("harm", ["torn", "one bit", "no line", "bad line", "empty"])
def test_a_harmed_file_is_passed_over_with_a_note(harm: str, tmp_path: Path) -> None:
    store, run = Store(tmp_path), small()
    saved(store, run)
    path = saved(store, run)
    data = bytearray(path.read_bytes())
    if harm == "torn":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "one bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "no line":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text("{")
    loaded = store.load()
    assert loaded is not None
    assert loaded.entry.tick == 1
    assert len(loaded.notes) == 1
    assert path.name in loaded.notes[0]
    assert "passed over" in loaded.notes[0]


def test_where_there_is_nothing_nothing_is_loaded(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").load() is None


def test_a_good_one_that_was_torn_does_not_let_the_one_before_it_go(tmp_path: Path) -> None:
    store, run = Store(tmp_path, keep=1), small()
    saved(store, run)
    torn = saved(Store(tmp_path, keep=9), run)
    torn.write_bytes(b"torn")
    saved(store, run, good=False)
    found = store.load(good=True)
    assert found is not None
    assert found.entry.tick == 1


def test_a_full_disk_ends_no_training_and_leaves_no_trace(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write fails in the middle of the file."""
    script = f"""
import resource, signal, torch
from supervisor.checkpoints import Store, capture
from supervisor.run import TrainingRun
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = torch.nn.Linear(200, 200)
run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
store = Store({str(tmp_path)!r})
print(store.save(run, capture(run)).status)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
result = store.save(run, capture(run))
print(result.status, result.why)
print(store.load().entry.tick)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.strip().splitlines()
    assert first == "saved"
    assert second.startswith("failed")
    assert "Is the disk full" in second
    assert third == "0"
    assert names(tmp_path) == ["000001-tick0.json", "000001-tick0.pt"]


def test_a_folder_that_cannot_be_made_is_told_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = small()
    result = Store(tmp_path / "file" / "folder").save(run, capture(run))
    assert result.status == "failed"
    assert "folder not writable" in result.why


def test_a_file_left_unfinished_is_cleared_by_the_next_save(tmp_path: Path) -> None:
    (tmp_path / "000001-tick1.pt.unfinished").write_text("half")
    (tmp_path / "000001-tick1.pt").write_text("whole, but its line was never written")
    saved(Store(tmp_path), small())
    assert names(tmp_path) == ["000002-tick1.json", "000002-tick1.pt"]


def test_another_thread_may_write_while_the_training_goes_on(tmp_path: Path) -> None:
    """The document holds the memory of its checkpoint, so that no later capture writes into it."""
    store, run = Store(tmp_path), small(5)
    weight = run.model.get_parameter("weight")
    weight.data.fill_(1.0)
    state = capture(run)
    document = document_of(run, state)
    weight.data.fill_(2.0)
    later = capture(run, state)
    thread = threading.Thread(target=store.write, args=(document,))
    thread.start()
    thread.join()
    loaded = store.load()
    assert loaded is not None
    loaded.restore(run)
    assert weight.unique().tolist() == [1.0]
    restore(run, later)
    assert weight.unique().tolist() == [2.0]
    del document, loaded, thread
    assert not state.held


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    path = saved(Store(tmp_path), run_of(lab("adam")))
    assert set(torch.load(path, weights_only=True)) >= {"parameters", "optimizers", "rng"}


class Holder:
    """A registered thing whose state is not all plain data."""

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}

    def state_dict(self) -> dict[Any, Any]:
        return self.state

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        self.state = state


def test_odd_values_return_as_they_were_and_what_is_no_data_is_named(tmp_path: Path) -> None:
    holder, run = Holder(), small()
    vars(run)["registered"] = {"odd": holder}
    plain: dict[Any, Any] = {
        3: (1, 2.5, 1e400, None, True, b"bytes", 1 + 2j),
        "set": {1, 2},
        "size": torch.Size([2]),
        "dtype": torch.bfloat16,
        "nested": [{"deep": [1]}],
    }
    array = np.arange(6, dtype=np.uint32).reshape(2, 3)
    holder.state = {**plain, "array": array, "number": np.float64(0.1), "lock": threading.Lock()}
    result = Store(tmp_path).save(run, capture(run))
    assert [note.partition(":")[0] for note in result.notes] == ["registered.odd.lock"]
    loaded = Store(tmp_path).load()
    assert loaded is not None
    loaded.restore(run)
    assert {key: holder.state[key] for key in plain} == plain
    assert holder.state["array"].dtype == np.uint32
    assert np.array_equal(holder.state["array"], array)
    assert isinstance(holder.state["number"], np.float64)
    assert "lock" not in holder.state


def test_what_goes_along_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    saved(store, small(), more={"settings": {"lr_multiplier": 0.1}})
    loaded = store.load()
    assert loaded is not None
    assert loaded.more == {"settings": {"lr_multiplier": 0.1}}


def test_another_training_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    store, run = Store(tmp_path), small()
    saved(store, run)
    loaded = store.load()
    assert loaded is not None
    model = nn.Linear(2, 2, bias=False)
    before = model.weight.tolist()
    other = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
    with pytest.raises(UsageError, match=r"holds parameter 'bias', which this training has not.*rebuild"):
        loaded.restore(other)
    wide = nn.Linear(2, 3)
    with pytest.raises(UsageError, match=r"'weight' has shape \(2, 2\), here \(3, 2\)"):
        loaded.restore(TrainingRun(wide, (torch.optim.SGD(wide.parameters(), lr=0.1),)))
    assert model.weight.tolist() == before
