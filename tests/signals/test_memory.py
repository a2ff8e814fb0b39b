"""What the monitor holds in memory, between the ticks and at the peak of one."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.signals.costing import bare, batches, between, squared, without_ring


def big() -> nn.Module:
    """Return a model of 16 MB whose activations are small: a copy of anything of it would show."""
    return nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(1024, 1024), nn.ReLU())), nn.Linear(1024, 1))


def megabytes(loop: Callable[..., None], first: int, last: int, steps: int) -> tuple[float, float]:
    """Return (held, peak) in MB: all tensors alive before tick `last`, and what ticks `first` to `last` - 1 added."""
    torch.manual_seed(0)
    model = big()
    profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
    held = [0.0]

    def end() -> None:
        profile.stop()
        gc.collect()
        tensors = [o for o in gc.get_objects() if type(o) in (Tensor, nn.Parameter) and o.layout is torch.strided]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        held[0] = sum(storages.values()) / 1e6

    step = between(squared(model), first, last, profile.start, end)
    loop(model, torch.optim.SGD(model.parameters(), lr=1e-3), step, batches(16, 1024), steps)
    assert profile.profiler is not None
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()  # type: ignore[union-attr]
        peak = max(peak, now)
    return held[0], peak / 1e6


def test_the_monitor_adds_one_per_cent_of_the_model_and_ten_megabytes_at_most() -> None:
    """Held between ticks, and at the peak of sampled ones; known-good states are counted elsewhere."""
    weight = sum(p.numel() * p.element_size() for p in big().parameters()) / 1e6
    mine, theirs = megabytes(without_ring, 11, 22, 22), megabytes(bare, 11, 22, 22)
    assert weight > 16.0
    for with_it, without in zip(mine, theirs, strict=True):
        assert with_it - without <= 0.01 * weight + 10.0


def test_the_peak_of_memory_stays_where_it_was_after_the_warm_up() -> None:
    early, late = megabytes(without_ring, 11, 21, 62), megabytes(without_ring, 51, 61, 62)
    assert late == pytest.approx(early, abs=0.1)
