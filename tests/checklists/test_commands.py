"""`supervise check` and `supervise diagnose`, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from supervisor.cli import main
from tests.checklists.models import at

MODULE = """
import torch
from torch import nn
from supervisor import Policy, Training

def build(depth=3, width=20):
    torch.manual_seed(0)
    hidden = [m for i in range(depth - 1) for m in (nn.Linear(20 if i == 0 else 32, 32), nn.Sigmoid())]
    model = nn.Sequential(*hidden, nn.Linear(32, 4))
    data = [(torch.randn(64, width), torch.randint(4, (64,))) for _ in range(9)]
    loss = lambda pair: nn.functional.cross_entropy(model(pair[0]), pair[1])
    return Training(loss, model, torch.optim.Adam(model.parameters()), data, policy=Policy("none"))

def deep():
    return build(12)

def broken():
    return build(width=21)

def number():
    return 3
"""


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


@pytest.fixture
def module(tmp_path: Path) -> str:
    """Write a module of a name of its own into the current folder: imported modules are kept by name."""
    name = f"training_{abs(hash(str(tmp_path)))}"
    Path(f"{name}.py").write_text(MODULE, encoding="utf-8")
    return name


@pytest.mark.parametrize("command", ["check", "diagnose"])
def test_help_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert (result.exit_code, "Example: supervise" in result.output) == (0, True)


def test_check_prints_the_list_and_leaves_with_0_in_spite_of_warnings(module: str) -> None:
    result = run("check", f"{module}:deep")
    assert result.exit_code == 0, result.output
    assert "activations" in result.output
    assert "11 hidden layers squash" in result.output
    assert "warned" in result.output


def test_check_json_is_plain_data_alone(module: str) -> None:
    facts = json.loads(run("check", f"{module}:build", "--json").stdout)
    assert (facts["started"], facts["counts"]["warned"]) == (True, 0)


def test_check_fix_tells_what_would_be_done_and_where_to_call_it(module: str) -> None:
    told = run("check", f"{module}:deep", "--fix").output
    assert f"Call supervisor.initialize_(model) in {module}.deep" in told
    assert "Xavier uniform, before sigmoid" in told
    fixes = json.loads(run("check", f"{module}:deep", "--fix", "--json").stdout)["fix"]
    assert len(fixes) == 24


def test_check_leaves_with_1_where_the_first_pass_fails(module: str) -> None:
    result = run("check", f"{module}:broken")
    assert (result.exit_code, "cannot be multiplied" in " ".join(result.output.split())) == (1, True)


def test_diagnose_prints_table_and_findings_and_draws(module: str) -> None:
    result = run("diagnose", f"{module}:deep", "--plot", "layers.png", "--batches", "2")
    assert result.exit_code == 0, result.output
    assert "vanishing_gradients" in result.output
    assert Path("layers.png").is_file()
    facts = json.loads(run("diagnose", f"{module}:build", "--json").stdout)
    assert (facts["healthy"], facts["batches"]) == (True, 8)


@pytest.mark.parametrize("wrapped", ["", "model", "state_dict", "model_state_dict"])
def test_diagnose_loads_a_checkpoint_first(module: str, wrapped: str) -> None:
    model = nn.Sequential(nn.Linear(20, 32), nn.Sigmoid(), nn.Linear(32, 32), nn.Sigmoid(), nn.Linear(32, 4))
    nn.init.normal_(at(model, 0).weight, std=20.0)
    state = model.state_dict()
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, "model.pt")
    facts = json.loads(run("diagnose", f"{module}:build", "--checkpoint", "model.pt", "--json").stdout)
    assert [finding["pathology"] for finding in facts["findings"]] == ["saturation"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["check", "nowhere:build"], "nowhere:build: there is no module 'nowhere'"),
        (["check", "MODULE"], "expected MODULE:FUNCTION"),
        (["check", "MODULE:biuld"], "Did you mean 'build'?"),
        (["check", "MODULE:number"], "returned int 3; let it return supervisor.Training"),
        (["diagnose", "MODULE:build", "--checkpoint", "no.pt"], "no.pt: there is no such file"),
        (["diagnose", "MODULE:build", "--checkpoint", "MODULE.py"], "holds no plain tensors"),
        (["diagnose", "MODULE:build", "--checkpoint", "other.pt"], "does not fit Sequential"),
        (["diagnose", "MODULE:build", "--plot", "no/layers.png"], "there is no folder 'no'"),
    ],
)
def test_a_mistake_gets_one_line_with_place_and_remedy(module: str, args: list[str], message: str) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), "other.pt")
    result = run(*(arg.replace("MODULE", module) for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
