"""The README's code runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.policy import Policy

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("healthy")


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_policy_block_is_a_policy(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    policy = Policy.load(path)
    assert "swap_activation" not in policy.remedies
    assert [str(rung) for rung in policy.respond["exploding_gradients"]] == [
        "clip_norm",
        "rollback + lower_lr",
        "rollback + lower_lr",
        "stop",
    ]


def test_the_two_commands_and_every_picture_exist() -> None:
    root = Path(__file__).parents[1]
    assert "make demo" in README
    assert "make test" in README
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (root / picture).is_file(), picture
