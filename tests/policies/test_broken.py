"""Every file under broken/ is refused with exactly the message that lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.errors import PolicyError
from supervisor.policy.loader import load
from supervisor.policy.vocabulary import Vocabulary

BROKEN = Path(__file__).parent / "broken"


@pytest.mark.parametrize("file", sorted(path.name for path in BROKEN.glob("*.yaml")))
def test_a_broken_policy_is_refused_with_place_expectation_and_nearest_word(
    file: str, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(BROKEN)
    with pytest.raises(PolicyError) as caught:
        load(file, vocabulary)
    assert str(caught.value) + "\n" == (BROKEN / file).with_suffix(".txt").read_text(encoding="utf-8")


def test_no_expected_message_has_lost_its_file() -> None:
    assert {path.stem for path in BROKEN.glob("*.txt")} == {path.stem for path in BROKEN.glob("*.yaml")}
