"""The commands, as a person types them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from supervisor.cli import main
from supervisor.journal import Journal
from supervisor.policy import Policy
from supervisor.policy.shipped import names, shipped_text
from supervisor.recording.metrics import MetricsWriter
from supervisor.records import Anatomy, Layer, Snapshot

GOOD = "name: mine\nextends: default\nlimits: {cooldown: 10}\n"
BAD = "name: mine\nextends: default\nlimits: {cooldwn: 10}\n"
COMPLAINT = "bad.yaml:3:10: limits.cooldwn: unknown key 'cooldwn'. Did you mean 'cooldown'?"
COMMANDS = [
    *("policy", "policy list", "policy show", "policy check", "policy schema"),
    *("policy explain", "policy diff", "policy new"),
    *("check", "diagnose", "clinic", "review", "tune"),
]


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def record(folder: Path, onset: int | None = None, ticks: int = 120) -> Path:
    """Write a run whose loss falls; from `onset` on gradients and loss jump every tenth tick."""
    journal, metrics = Journal(folder), MetricsWriter(folder)
    journal.append("start", 0, 0, {"policy": "default", "steps": ticks})
    anatomy = Anatomy((Layer("net.0", "linear", 64),))
    for tick in range(1, ticks + 1):
        spike = onset is not None and tick >= onset and tick % 10 == 0
        norm = (5e3 if spike else 1.0) * (1 + 0.1 * math.sin(tick))
        loss = 50.0 if spike else 2.3 * math.exp(-tick / 60) + 0.02 * math.sin(3 * tick)
        metrics.append(Snapshot(tick, tick, loss, 1e-3, norm, np.array([norm], np.float32), anatomy))
    metrics.close()
    end = {"status": "completed", "health": "healthy", "ticks": ticks, "steps": ticks, "stop_reason": ""}
    journal.append("end", ticks, ticks, {**end, "final_loss": 0.3, "best_loss": 0.2})
    journal.close()
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Example: supervise" in result.output


@pytest.mark.parametrize(
    "args", [["--help"], ["policy", "list"], ["policy", "list", "--json"], ["policy", "show", "default"]]
)
def test_help_and_the_list_import_nothing_heavy(args: list[str]) -> None:
    """These answer within 0.3 s, which no process that imports torch or mlflow can."""
    script = (
        "import sys\nfrom supervisor.cli import main\n"
        f"try: main({args!r})\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'pydantic', 'apscheduler', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_policy_list_names_what_is_shipped() -> None:
    listed = json.loads(run("policy", "list", "--json").output)
    assert [one["name"] for one in listed] == names()
    assert all(one["name"] in run("policy", "list").output for one in listed)


def test_policy_show_prints_a_policy_as_it_was_written() -> None:
    assert run("policy", "show", "default").output == shipped_text("default")


def test_policy_show_resolved_writes_out_what_is_inherited() -> None:
    Path("mine.yaml").write_text(GOOD, encoding="utf-8")
    Path("resolved.yaml").write_text(run("policy", "show", "mine.yaml", "--resolved").output, encoding="utf-8")
    assert "extends" not in Path("resolved.yaml").read_text(encoding="utf-8")
    assert Policy.load("resolved.yaml") == Policy.load("mine.yaml")
    assert json.loads(run("policy", "show", "mine.yaml", "--json").output)["limits"]["cooldown"] == 10


def test_policy_check_tells_good_files_from_bad_ones() -> None:
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    Path("bad.yaml").write_text(BAD, encoding="utf-8")
    assert run("policy", "check", "good.yaml").exit_code == 0
    result = run("policy", "check", "good.yaml", "bad.yaml")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "good.yaml: good\n", COMPLAINT + "\n")
    facts = json.loads(run("policy", "check", "good.yaml", "bad.yaml", "--json").stdout)
    assert facts == [{"file": "good.yaml", "problems": []}, {"file": "bad.yaml", "problems": [COMPLAINT]}]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["policy", "show", "defualt"], 2, "Did you mean 'default'?"),
        (["policy", "show", "nowhere.yaml"], 2, "nowhere.yaml: cannot read the policy: No such file"),
        (["policy", "explain", "trnasformer"], 2, "Did you mean 'transformer'?"),
        (["policy", "diff", "default", "nowhere.yaml"], 2, "nowhere.yaml: cannot read the policy: No such file"),
        (["policy", "new", "rnn"], 2, "Choose another name"),
        (["policy", "new", "a/b"], 2, "expected a plain name, such as my-policy"),
        (["policy", "new", "mine", "--extends", "caution"], 2, "Did you mean 'cautious'?"),
        (["policy", "new", "mine", "--out", "no/mine.yaml"], 2, "there is no folder 'no'"),
        (["review"], 2, "no run under"),
        (["review", "."], 2, "no journal.jsonl in it"),
        (["policy", "check"], 2, "Missing argument"),
        (["polcy"], 2, "No such command"),
        (["tune", "dead_units", "--faulty", "x", "--out", "no/folder.yaml"], 2, "there is no folder 'no'"),
    ],
)
def test_a_mistake_gets_a_message_and_no_stack_trace(args: list[str], code: int, message: str) -> None:
    result = run(*args)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_damaged_journal_is_a_failure_and_no_wrong_usage() -> None:
    folder = record(Path("run"))
    journal = folder / "journal.jsonl"
    journal.write_text("{\n" + journal.read_text(encoding="utf-8"), encoding="utf-8")
    result = run("review", "run")
    assert (result.exit_code, "not a JSON line" in result.stderr) == (1, True)


def test_review_tells_the_newest_run_and_writes_its_page() -> None:
    folder = record(Path("supervisor_runs/first"))
    result = run("review")
    assert result.exit_code == 0, result.output
    assert "nothing had to be done" in result.output
    assert str(folder / "review.html") in result.output
    assert (folder / "review.html").read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")


def test_review_json_prints_data_alone_and_writes_a_page_only_where_asked() -> None:
    folder = record(Path("run"))
    assert json.loads(run("review", "run", "--json").stdout)["status"] == "completed"
    assert not (folder / "review.html").exists()
    assert json.loads(run("review", "run", "--json", "--html", "page.html").stdout)["ticks"] == 120
    assert Path("page.html").is_file()


def test_a_page_that_cannot_be_written_is_named_without_a_stack_trace() -> None:
    record(Path("run"))
    result = run("review", "run", "--html", "nowhere/page.html")
    assert (result.exit_code, result.stderr) == (1, "nowhere/page.html: No such file or directory\n")


def test_tune_writes_a_policy_that_loads_and_never_overwrites_one() -> None:
    for name, onset in {"good-1": None, "good-2": None, "ill": 60}.items():
        record(Path(name), onset)
    args = ["tune", "exploding_gradients", "--healthy", "good-1", "good-2", "--faulty", "ill@60", "--trials", "3"]
    result = run(*args, "--out", "tuned.yaml")
    assert result.exit_code == 0, result.output
    assert "before" in result.output
    assert Policy.load("tuned.yaml").respond == Policy.load("default").respond
    again = run(*args, "--out", "tuned.yaml")
    assert (again.exit_code, "tuned.yaml: exists already" in again.stderr) == (2, True)
    assert json.loads(run(*args, "--out", "other.yaml", "--json").stdout)["file"] == "other.yaml"


def test_an_onset_is_read_from_the_run_unless_a_folder_is_called_so() -> None:
    from supervisor.cli.runs import _onset

    Path("run@7").mkdir()
    assert [_onset(run) for run in ("run@12", "run", "run@7", "me@home/run")] == [
        ("run", 12),
        ("run", 0),
        ("run@7", 0),
        ("me@home/run", 0),
    ]
