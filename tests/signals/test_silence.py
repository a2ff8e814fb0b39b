"""Silence is counted site by site, whichever of them a forward pass went through, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supervisor.records import SILENCE_LENGTHS
from supervisor.signals.figures import Reading
from supervisor.signals.silence import Silence
from supervisor.signals.watched import ROWS, Watched


def sites(*units: int) -> list[Watched]:
    return [Watched((f"act{i}", "relu", f"layer{i}"), module=True, units=n) for i, n in enumerate(units)]


def read(silence: Silence, watched: list[Watched]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    parts = silence.gathered(watched)
    figures = torch.cat(parts).double().numpy() if parts else np.zeros(0)
    return silence.figures(watched, Reading(figures))


def test_any_mixture_of_calls_equals_a_plain_count() -> None:
    """Sites that are skipped, called twice, given few rows, or other units than before."""
    random, silence, watched = np.random.default_rng(0), Silence(), sites(5, 3, 8)
    expected: dict[int, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for sample in range(60):
        called = random.permutation(3)[: random.integers(0, 4)] if sample < 40 else np.arange(3)
        for i in called:
            units = 8 if sample < 30 or i < 2 else 6
            rows = int(random.choice([ROWS, 2 * ROWS]))
            awake = np.zeros(units, bool)
            for _ in range(random.integers(1, 3)):
                out = torch.relu(torch.from_numpy(random.normal(-3.0, 1.0, (rows, units if i == 2 else 5 - 2 * i))))
                watched[i].take(out.float(), conv=False)
                awake = (out > 0).any(0).numpy() | (awake if len(awake) == out.shape[1] else False)
            before = expected.get(i, np.zeros(0))
            before = before if len(before) == len(awake) else np.zeros(len(awake))
            expected[i] = np.where(awake, 0, before + 1)
        found = read(silence, watched)
        for i, runs in expected.items():
            assert found[i, : len(SILENCE_LENGTHS)] == pytest.approx([(runs >= n).mean() for n in SILENCE_LENGTHS])
            units_silent = silence.units(watched[i], 2)
            assert units_silent is not None
            assert units_silent.tolist() == (runs >= 2).tolist()
    assert any((runs >= 4).any() for runs in expected.values())


def test_few_inputs_add_up_to_a_sample() -> None:
    silence, (site,) = Silence(), sites(2)
    for n in range(1, 5):
        site.take(torch.tensor([[0.0, float(n == 1)]]).expand(ROWS // 4, 2), conv=False)
        found = read(silence, [site])
        assert found[0, 0] == (0.5 if n == 4 else 0.0)
    assert found[0, len(SILENCE_LENGTHS)] == 1.0  # zeros are those of the last call
