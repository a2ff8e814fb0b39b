"""The memory of consumed batches is bounded, and keeps ill ones out of trials."""

from __future__ import annotations

import numpy as np
import torch

from supervisor.verification.recent import MOST_GROUPS, Recent, bytes_of


def held(recent: Recent, most: int = 1000) -> list[int]:
    return [int(group[0]) for group in recent.usable(most)]


def fed(ticks: int, recent: Recent | None = None) -> Recent:
    recent = recent or Recent()
    for tick in range(1, ticks + 1):
        recent.add(tick, [torch.tensor(tick)])
    return recent


def test_the_newest_are_given_the_oldest_of_them_first() -> None:
    assert held(fed(9), most=3) == [7, 8, 9]


def test_bytes_and_groups_are_bounded() -> None:
    assert held(fed(10, Recent(most_bytes=3 * 8))) == [8, 9, 10]
    assert len(held(fed(3 * MOST_GROUPS))) == MOST_GROUPS


def test_one_group_is_held_however_large() -> None:
    assert held(fed(5, Recent(most_bytes=1))) == [5]


def test_upset_ticks_are_left_out_while_there_are_enough_others() -> None:
    recent = fed(9)
    recent.note_upset(8)
    recent.note_upset(9)
    assert held(recent) == [1, 2, 3, 4, 5, 6, 7]
    for tick in range(2, 8):
        recent.note_upset(tick)
    assert held(recent) == list(range(1, 10))


def test_what_came_since_a_tick_is_given_whole_or_not_at_all() -> None:
    recent = fed(10, Recent(most_bytes=4 * 8))
    assert [int(group[0]) for group in recent.since(7) or []] == [8, 9, 10]
    assert recent.since(5) is None
    assert recent.since(10) is None


def test_bytes_are_counted_in_whatever_a_batch_is_made_of() -> None:
    class Holder:
        def __init__(self) -> None:
            self.x, self.name = torch.zeros(4), "name"

    batch = {"x": torch.zeros(2, 3), "y": [np.zeros(5), (torch.zeros(1, dtype=torch.float64), "text")], "z": Holder()}
    assert bytes_of(batch) == 24 + 40 + 8 + 16
