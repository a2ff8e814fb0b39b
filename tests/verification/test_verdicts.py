"""What became of a rung: a pure function of records and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from supervisor.diagnoses.past import Past
from supervisor.policy.ledger import Incident, Probation
from supervisor.records import Anatomy, Decision, Finding, Snapshot, Verdict
from supervisor.verification import close_quiet, judge

BEGAN, LENGTH = 100, 20


def snapshot(tick: int, loss: float = 1.0) -> Snapshot:
    return Snapshot(tick, tick, loss, 0.1, 1.0, np.ones(1, dtype=np.float32), Anatomy(()))


def past(losses: Sequence[float]) -> Past:
    held = Past()
    for tick, loss in enumerate(losses):
        held.append(snapshot(tick, loss))
    return held


def incident(
    pathology: str = "dead_units", *remedies: str, last_seen: int = BEGAN, sightings: int = 0, loss: float = 1.0,
    noise: float = 0.05,
) -> Incident:  # fmt: skip
    """Return an incident whose rung was applied at BEGAN, at a usual loss of `loss`."""
    finding = Finding(pathology, BEGAN, BEGAN, ("layer",), 0.5, "a test")
    names = remedies or ("reinit_weights",)
    decisions = tuple(Decision(f"d{n}", r, {}, finding, 0, "", BEGAN, BEGAN) for n, r in enumerate(names, start=1))
    return Incident(finding, last_seen, probation=Probation(decisions, BEGAN, loss, noise, sightings))


def verdict(
    ill: Incident, age: int = LENGTH, losses: Sequence[float] = (1.0,) * 60, *, now: float = 1.0, over: bool = False,
) -> Verdict | None:  # fmt: skip
    return judge(ill, snapshot(BEGAN + age, now), past(losses), LENGTH, over=over)


def status(*args: object, **kwargs: object) -> str | None:
    found = verdict(*args, **kwargs)  # type: ignore[arg-type]
    return None if found is None else found.status


def test_there_is_none_before_the_probation_is_over() -> None:
    assert [status(incident(), age) for age in (0, 1, LENGTH - 1)] == [None, None, None]


def test_not_seen_again_and_the_loss_is_no_higher() -> None:
    found = verdict(incident("dead_units", "swap_activation", "reinit_weights"))
    assert found is not None
    assert (found.status, found.decisions, found.pathology) == ("resolved", ("d1", "d2"), "dead_units")
    assert (found.tick, found.undone) == (BEGAN + LENGTH, False)


@pytest.mark.parametrize(("last_seen", "expected"), [(BEGAN + 9, "resolved"), (BEGAN + 10, "resolved"),
                                                     (BEGAN + 11, "persisted"), (BEGAN + 20, "persisted")])  # fmt: skip
def test_only_the_second_half_of_the_probation_counts(last_seen: int, expected: str) -> None:
    assert status(incident(last_seen=last_seen)) == expected


@pytest.mark.parametrize(("level", "expected"), [(1.0, "resolved"), (1.19, "resolved"), (1.25, "worsened")])
def test_a_loss_that_stays_higher_than_its_noise_is_worse(level: float, expected: str) -> None:
    assert status(incident(), losses=[1.0] * 40 + [level] * LENGTH) == expected


def test_a_noisy_loss_is_given_more_room() -> None:
    assert status(incident(noise=0.3), losses=[1.0] * 40 + [1.8] * LENGTH) == "resolved"


def test_one_outlier_is_no_level() -> None:
    assert status(incident(), losses=[1.0] * 59 + [500.0], now=500.0) == "resolved"


def test_an_upset_training_that_is_still_above_its_level_persists_because_there_is_nothing_to_go_back_to() -> None:
    losses = [1.0] * 40 + [3.0] * LENGTH
    for pathology in ("exploding_gradients", "non_finite", "unstable_training"):
        assert status(incident(pathology, "lower_lr"), losses=losses) == "persisted"


def test_without_a_level_from_before_what_is_seen_alone_decides() -> None:
    assert status(incident(loss=math.nan, noise=math.nan)) == "resolved"
    assert status(incident(loss=math.nan, noise=math.nan, last_seen=BEGAN + 15)) == "persisted"


def test_a_skip_is_proven_after_few_ticks() -> None:
    assert [status(incident("non_finite", "skip_step"), age) for age in (1, 4, 5)] == [None, None, "resolved"]


def test_non_finite_again_needs_no_waiting() -> None:
    again = incident("non_finite", "skip_step", last_seen=BEGAN + 1)
    assert status(again, 1, now=math.nan) == "persisted"


def test_a_cure_that_makes_things_non_finite_is_worse_at_once() -> None:
    assert status(incident("dead_units"), 3, now=math.inf) == "worsened"


def test_a_reflex_is_not_to_blame_for_what_is_not_finite() -> None:
    assert status(incident("exploding_gradients", "clip_norm"), 3, now=math.nan) is None


def test_the_end_of_the_run_leaves_it_open() -> None:
    for age in (0, 7):
        found = verdict(incident(), age, over=True)
        assert found is not None
        assert (found.status, found.reason) == ("inconclusive", f"the run ended {age} ticks into the probation")
    assert status(incident(), LENGTH, over=True) == "resolved"


def test_what_nobody_treats_closes_when_it_has_not_been_seen_for_a_hundred_ticks() -> None:
    untreated = Incident(Finding("dead_units", 5, 5, (), 0.5, "a test"), last_seen=50)
    assert judge(untreated, snapshot(500), past([1.0]), LENGTH) is None
    assert close_quiet(untreated, snapshot(149)) is None
    found = close_quiet(untreated, snapshot(150))
    assert found is not None
    assert (found.status, found.decisions) == ("resolved", ())
    assert close_quiet(incident(), snapshot(BEGAN + 500)) is None
