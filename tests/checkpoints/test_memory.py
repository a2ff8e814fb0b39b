"""How much memory a ring may count on."""

from __future__ import annotations

import os

import torch

from supervisor.checkpoints import Ring
from supervisor.checkpoints.memory import free
from supervisor.checkpoints.ring import OF_FREE
from supervisor.checkpoints.state import state_size
from tests.entry.trainings import lab, run_of


def test_what_is_free_is_no_more_than_there_is() -> None:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free(torch.device("cpu")) <= there


def test_left_to_itself_a_ring_takes_at_most_its_part_of_what_is_free() -> None:
    run = run_of(lab("adam"))
    share = Ring(run)._share(torch.device("cpu"))
    assert state_size(run) < share <= 1.1 * free(torch.device("cpu")) / OF_FREE
