"""A forward pass that was seen before is followed, not looked at anew; where it goes another way, it is noticed."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.records import Sample, Snapshot
from tests.signals.watching import Watching, every_model, made, vectors

TICKS = 60


def figures(sample: Sample) -> dict[str, list[float]]:
    return {f.name: getattr(sample, f.name).tolist() for f in dataclasses.fields(sample)}


def trained(watching: Watching, batches: list[Tensor]) -> list[Snapshot]:
    torch.manual_seed(1)
    return [watching.tick(batch) for batch in batches]


@every_model
def test_what_is_followed_is_measured_as_if_it_were_looked_at_in_full(name: str) -> None:
    model, batch = made(name)
    batches = [batch() for _ in range(TICKS)]
    followed, full = Watching(copy.deepcopy(model), every=3), Watching(model, every=3)
    full.sensor.probe.score.readable = False
    for watching in (followed, full):
        watching.loss = lambda batch, model=watching.model: model(batch).abs().square().mean()
    for a, b in zip(trained(followed, batches), trained(full, batches), strict=True):
        assert (a.sample is None) == (b.sample is None)
        if a.sample is not None and b.sample is not None:
            np.testing.assert_equal(figures(a.sample), figures(b.sample))
        assert a.anatomy == b.anatomy


class Switched(nn.Module):
    """Two experts of the same shape: which of them is asked changes nothing but the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.chosen = nn.Linear(6, 8), nn.Linear(8, 3), 0
        self.experts = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 6) to (batch, 3)."""
        return self.head(F.relu(self.experts[self.chosen](self.stem(x))))  # type: ignore[no-any-return]


def test_a_network_that_takes_another_way_is_looked_at_in_the_next_tick() -> None:
    """The same functions of other weights are another way; nothing is told of the sample in which it changed."""
    model = Switched()
    watching = Watching(model, every=5)
    before = [watching.tick(vectors()) for _ in range(33)][-1]
    assert watching.sensor.probe.score.trusted()
    model.chosen = 1
    after = [watching.tick(vectors()) for _ in range(6)]
    assert [site.producer for site in before.anatomy.sites] == ["experts.0"]
    assert [now.sample is not None for now in after] == [False, False, False, True, False, False]
    assert not watching.sensor.probe.score.trusted()
    assert [site.producer for site in after[-1].anatomy.sites] == ["experts.0", "experts.1"]
    shown = {layer.name: i for i, layer in enumerate(after[3].anatomy.layers)}
    sample = after[3].sample
    assert sample is not None
    assert np.isnan(sample.signal[shown["experts.0"]])
    assert np.isfinite(sample.signal[shown["experts.1"]])


def test_a_network_whose_way_varies_is_never_followed_for_long() -> None:
    model = Switched()
    watching = Watching(model, every=2)
    sampled = 0
    for _ in range(100):
        model.chosen = int(torch.rand(()) < 0.5)
        sampled += watching.tick(vectors()).sample is not None
    assert sampled >= 45


def test_it_is_looked_at_in_full_again_and_again() -> None:
    watching = Watching(Switched(), every=2)
    seen = []
    for _ in range(60):
        now = watching.tick(vectors())
        seen += [watching.sensor.probe.followed] if now.sample is not None else []
    assert seen.count(False) > 4
    assert seen.count(True) > 3 * (seen.count(False) - 4)


def test_a_recurrent_layer_is_looked_at_in_every_sample() -> None:
    model, batch = made("lstm")
    watching = Watching(model, every=2)
    for _ in range(30):
        watching.tick(batch())
        assert not watching.sensor.probe.followed
