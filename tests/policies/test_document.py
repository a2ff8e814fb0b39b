"""What YAML text means in a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import PolicyError
from supervisor.policy.document import MAX_BYTES, dotted, read, read_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1.0e-6", 1e-6),
        ("1.0E+2", 100.0),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("012", 12),
        ("0x1f", 31),
        ("0o17", 15),
        ("-3", -3),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2024-05-01", "2024-05-01"),
        ('"1e-6"', "1e-6"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("e5", "e5"),
        ("!!float 3", 3.0),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    document = read(f"key: {text}\n", "mine.yaml")
    assert (document.data["key"], type(document.data["key"])) == (value, type(value))
    assert document.problems == []


def test_every_key_and_list_item_knows_its_line_and_column() -> None:
    document = read("name: x\nrespond:\n  dead_units:\n    - stop\n    - [a, b: {c: 1}]\n", "mine.yaml")
    assert document.places["respond", "dead_units"] == (3, 3)
    assert document.places["respond", "dead_units", 0] == (4, 7)
    assert document.places["respond", "dead_units", 1, 1, "b", "c"] == (5, 15)


def test_a_problem_points_at_the_nearest_key_that_exists() -> None:
    document = read("limits:\n  cooldown: 3\n", "mine.yaml")
    document.complain(("limits", "interventions"), "is missing")
    assert document.problems == ["mine.yaml:1:1: limits.interventions: is missing"]


def test_a_key_path_reads_as_in_code() -> None:
    assert dotted(("respond", "dead_units", 1, 0, "lower_lr")) == "respond.dead_units[1][0].lower_lr"


def test_a_file_larger_than_any_policy_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(PolicyError, match=r"large.yaml: larger than 256 kB"):
        read_file(path, str(path))


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere.yaml", "No such file"), (".", "Is a directory"), ("\0", "null")]
)
def test_what_cannot_be_opened_is_a_policy_error(name: str, reason: str) -> None:
    with pytest.raises(PolicyError, match=f"cannot read the policy: .*{reason}"):
        read_file(Path(name), name)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_file(path, "bom.yaml").data == {"name": "x"}


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{c}: &{c} [*a, *a, *a, *a]\n" for c in "bcdefgh")
    with pytest.raises(PolicyError, match=r"bomb.yaml:1:4: not readable as YAML: anchors and aliases"):
        read(bomb, "bomb.yaml")


def test_all_duplicates_are_named_and_the_first_value_counts() -> None:
    document = read("a: 1\na: 2\na: 3\n", "mine.yaml")
    expected: dict[str, Any] = {"a": 1}
    assert document.data == expected
    assert document.problems == [
        "mine.yaml:2:1: a: duplicate key on line 2, first given on line 1",
        "mine.yaml:3:1: a: duplicate key on line 3, first given on line 1",
    ]
