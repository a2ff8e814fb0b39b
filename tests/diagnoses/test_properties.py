"""One outlier blinds no judge: after whatever upset a training, the next spike is caught, at any scale and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervisor.diagnoses.examiner import Examiner, build_detectors
from supervisor.diagnoses.past import SHIFT
from supervisor.diagnoses.spikes import NEAR, RECENT
from supervisor.records import Finding, Snapshot
from tests.diagnoses.shots import shot

HARM = 0.5  # by this share a loss must leave its level; less is no harm, however quiet it was


@dataclass(frozen=True)
class Quiet:
    """A training that only makes noise, of one standard deviation `noise` in the log domain."""

    scale: float
    noise: float
    seed: int
    before: int  # ticks before it is upset
    gap: int  # ticks between that and the spike

    def shots(self, first: int, ticks: int, level: float = 1.0) -> list[Snapshot]:
        """Return usual ticks from tick `first` on, with gradients `level` times as large as they were."""
        rng = np.random.default_rng([self.seed, first])
        loss, norm = np.exp(self.noise * np.clip(rng.normal(size=(2, ticks)), -3.5, 3.5)) * self.scale
        return [shot(first + i, float(loss[i]), level * float(norm[i])) for i in range(ticks)]

    def spike(self, tick: int, sigmas: float, level: float = 1.0) -> Snapshot:
        """Return a tick so many sigmas out, and at least as far as harm begins."""
        out = math.exp(sigmas * self.noise)
        far = self.scale * max(out, 1.2 * NEAR)
        loss = self.scale * max(out, 1.2 * (1.0 + HARM))
        return shot(tick, min(loss, 1e38), min(level * far, 1e38))


quiets = st.builds(
    Quiet,
    scale=st.integers(-8, 8).map(lambda decades: 10.0**decades),
    noise=st.floats(0.01, 0.5),
    seed=st.integers(0, 10**6),
    before=st.integers(60, 220),
    gap=st.integers(0, 60),
)
many = settings(max_examples=60, deadline=None)


def found(shots: list[Snapshot], *pathologies: str) -> list[Finding]:
    examiner = Examiner(build_detectors({}))
    return [f for now in shots for f in examiner.examine(now) if f.pathology in pathologies]


def ticks(shots: list[Snapshot], *pathologies: str) -> set[int]:
    return {finding.tick for finding in found(shots, *pathologies)}


@many
@given(quiet=quiets)
def test_noise_alone_is_never_a_spike(quiet: Quiet) -> None:
    assert found(quiet.shots(1, 300), "exploding_gradients", "non_finite") == []


@many
@given(quiet=quiets)
def test_a_spike_of_20_sigma_is_caught(quiet: Quiet) -> None:
    at = quiet.before + 1
    assert ticks([*quiet.shots(1, quiet.before), quiet.spike(at, 20.0)], "exploding_gradients") == {at}


@many
@given(quiet=quiets, value=st.sampled_from([math.nan, math.inf]), burst=st.integers(1, 30))
def test_a_spike_after_a_nan_is_caught(quiet: Quiet, value: float, burst: int) -> None:
    first, last = quiet.before + 1, quiet.before + burst
    bad = [shot(tick, value, value) for tick in range(first, last + 1)]
    at = last + quiet.gap + 1
    shots = [*quiet.shots(1, quiet.before), *bad, *quiet.shots(last + 1, quiet.gap), quiet.spike(at, 20.0)]
    assert ticks(shots, "non_finite") == set(range(first, last + 1))
    assert ticks(shots, "exploding_gradients") == {at}


@many
@given(quiet=quiets, burst=st.integers(1, 30))
@example(quiet=Quiet(1.0, 0.5, 0, 60, 0), burst=30)
def test_a_spike_after_a_spike_of_100_sigma_is_caught(quiet: Quiet, burst: int) -> None:
    """Neither one monster nor a run of them lifts the limit for the next."""
    first, last = quiet.before + 1, quiet.before + burst
    monsters = [quiet.spike(tick, 100.0) for tick in range(first, last + 1)]
    at = last + quiet.gap + 1
    shots = [*quiet.shots(1, quiet.before), *monsters, *quiet.shots(last + 1, quiet.gap), quiet.spike(at, 20.0)]
    assert ticks(shots, "exploding_gradients") == {*range(first, last + 1), at}


@many
@given(quiet=quiets, decades=st.floats(-3.0, 3.0))
@example(quiet=Quiet(1.0, 0.01, 0, 220, 0), decades=-3.0)
def test_a_spike_after_a_shift_of_the_level_is_caught(quiet: Quiet, decades: float) -> None:
    """Gradients that are larger or smaller for good do no harm; what stands out of the new level does.

    Where the loss of a tick may be five times the usual by chance, such a tick of a level not yet known is a spike.
    """
    quiet = replace(quiet, noise=min(quiet.noise, 0.3))
    level, first = 10.0**decades, quiet.before + 1
    settled = SHIFT + RECENT + quiet.gap
    at = first + settled
    shots = [*quiet.shots(1, quiet.before), *quiet.shots(first, settled, level), quiet.spike(at, 20.0, level)]
    assert ticks(shots, "exploding_gradients") == {at}


@many
@given(quiet=quiets, decades=st.integers(-6, 6))
def test_the_scale_of_the_loss_is_no_symptom(quiet: Quiet, decades: int) -> None:
    at = quiet.before + 1
    shots = [*quiet.shots(1, quiet.before), quiet.spike(at, 20.0)]
    factor = np.float32(10.0**decades)

    def scaled(now: Snapshot) -> Snapshot:
        return shot(now.tick, now.loss * float(factor), now.grad_norm * float(factor))

    assert ticks([scaled(now) for now in shots], "exploding_gradients") == ticks(shots, "exploding_gradients")


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_a_spike_is_caught_at_any_tick_once_there_is_a_past(noise: float) -> None:
    quiet = Quiet(1.0, noise, 7, 0, 0)
    for before in range(24, 230, 7):
        at = before + 1
        assert ticks([*quiet.shots(1, before), quiet.spike(at, 20.0)], "exploding_gradients") == {at}
