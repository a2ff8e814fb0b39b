"""`supervise clinic`, as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from supervisor.cli import main
from supervisor.clinic.cases import cases_of
from supervisor.journal import read_journal

ROOT = Path(__file__).parents[2]
CONTROL = next(case.name for case in cases_of("development") if case.healthy)


def clinic(*args: str) -> Result:
    return CliRunner().invoke(main, ["clinic", *args])


def test_help_has_an_example() -> None:
    result = clinic("--help")
    assert (result.exit_code, "Example: supervise clinic" in result.output) == (0, True)


@pytest.mark.slow
def test_one_case_as_plain_data_with_its_record_kept() -> None:
    result = clinic("--only", CONTROL, "--jobs", "1", "--json", "--keep", "records")
    facts = json.loads(result.stdout)
    (row,) = facts["rows"]
    assert (row["case"], row["error"]) == (CONTROL, "")
    assert facts["summary"]["development"]["controls"]["treated"]["of"] == 1
    (journal,) = Path("records").rglob("journal.jsonl")
    assert next(iter(read_journal(journal)))["kind"] == "start"


@pytest.mark.slow
def test_one_case_as_text() -> None:
    result = clinic("--only", CONTROL, "--jobs", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{CONTROL}, seed 0: found ")
    assert "with an intervention" in result.stdout


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--only", "sadness"], "no case fits 'sadness': give a name, a pathology or a family; * fits anything.\n"),
        (["--policy", "defualt"], "defualt"),
        (["--seeds", "0"], "Invalid value for '--seeds'"),
        (["--half", "third"], "Invalid value for '--half'"),
        (["--against", "no_such_module:train"], "there is no module 'no_such_module' here or installed"),
    ],
)
def test_a_mistake_is_told_in_words(args: list[str], complaint: str) -> None:
    result = clinic(*args)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_sentence_and_no_process_left() -> None:
    """The processes it starts are in its group: the group is empty soon after it has ended."""
    script = "from supervisor.cli import main; main()"
    records = Path("records").absolute()
    options = ["--half", "development", "--only", "healthy", "--jobs", "1", "--keep", str(records)]
    command = [sys.executable, "-c", script, "clinic", *options]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert within(120, lambda: any(records.rglob("journal.jsonl")))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (said[:13], said.count("\n")) == ("interrupted: ", 1)
    assert within(10, lambda: not group_alive(process.pid))


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    """Wait until it happened; return whether it did."""
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(0.1)
    return happened()


def group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
