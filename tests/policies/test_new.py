"""A starting file: all that is inherited, commented out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from supervisor.cli import main
from supervisor.policy import Policy
from supervisor.policy.compare import differences
from supervisor.policy.loader import loads
from supervisor.policy.shipped import names
from supervisor.policy.starting import starting_file


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["policy", *args])


def uncommented(text: str) -> str:
    return "\n".join(line[1:] if re.match(r"#(\S|  )", line) else line for line in text.splitlines())


@pytest.mark.parametrize("name", names())
def test_a_starting_file_does_what_its_parent_does(name: str) -> None:
    parent = Policy.load(name)
    policy = loads(starting_file("mine", name, parent))
    assert (policy.name, differences(parent, policy)) == ("mine", [])


@pytest.mark.parametrize("name", names())
def test_with_every_setting_uncommented_it_still_does_what_its_parent_does(name: str) -> None:
    parent = Policy.load(name)
    text = uncommented(starting_file("mine", name, parent)).replace(f"extends: {name}\n", "")
    policy = loads(text)
    assert set(policy.respond) == set(parent.respond)
    assert differences(parent, policy) == []


def test_one_setting_uncommented_changes_that_alone() -> None:
    parent = Policy.load("default")
    text = starting_file("mine", "default", parent)
    text = text.replace("#limits:", "limits:").replace("#  cooldown: 25", "  cooldown: 7 ")
    assert [(one.key, one.b) for one in differences(parent, loads(text))] == [("limits.cooldown", 7)]


def test_words_that_yaml_would_take_for_something_else_are_quoted() -> None:
    Path("on.yaml").write_text("name: parent\n", encoding="utf-8")
    text = starting_file("1e3", "./on.yaml", Policy("parent").with_(context={"frozen": ["a, b", "on", "x: y"]}))
    assert loads(text).name == "1e3"
    assert loads(uncommented(text)).context.frozen == ("a, b", "on", "x: y")


def test_policy_new_writes_a_file_that_loads_and_never_overwrites_one() -> None:
    assert run("new", "mine", "--extends", "rnn").exit_code == 0
    assert Policy.load("mine.yaml").respond == Policy.load("rnn").respond
    again = run("new", "mine")
    assert (again.exit_code, "mine.yaml: exists already" in again.stderr) == (2, True)
    Path("inner").mkdir()
    facts = json.loads(run("new", "other", "--extends", "mine.yaml", "--out", "inner/o.yaml", "--json").stdout)
    assert facts == {"name": "other", "extends": "../mine.yaml", "file": "inner/o.yaml"}
    assert run("diff", "mine.yaml", "inner/o.yaml").output == "mine.yaml and inner/o.yaml do the same\n"
