"""Which states a rollback may return to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from supervisor.checkpoints import Ring
from supervisor.checkpoints.ring import EVERY, QUARANTINE, RELAPSE, ages, interval
from supervisor.errors import RemedyRefused
from supervisor.run import TrainingRun
from tests.checkpoints.operating import surgery


class Course:
    """A run whose only weight is the tick it stands at, so that a state tells its age."""

    def __init__(self) -> None:
        model = nn.Linear(1, 1, bias=False)
        self.run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))
        self.weight = model.weight
        self._write(0)
        self.ring = Ring(self.run)

    def _write(self, tick: int) -> None:
        with torch.no_grad():
            self.weight.fill_(float(tick))

    def go(self, ticks: int, *, healthy: bool = True) -> Course:
        for _ in range(ticks):
            self.run.clock.tick += 1
            self.run.clock.step += 1
            self._write(self.run.clock.tick)
            self.ring.tick(healthy=healthy)
        return self

    @property
    def tick(self) -> int:
        return self.run.clock.tick

    def back(self, margin: int = 0) -> int:
        """Roll back from the next tick, as a finding in it would; return the tick of the state in the weights."""
        self.run.clock.tick += 1
        tick, step = self.ring.rollback(self.tick - margin)
        assert self.weight[0].item() == tick
        assert self.run.clock.step == step
        return tick

    def good_ages(self) -> list[int]:
        return [self.tick - s.tick for s in self.ring.states if s in self.ring.good]


def test_the_state_before_the_first_step_is_good() -> None:
    assert Course().go(3).back() == 0


def test_a_state_is_no_target_before_its_quarantine_is_over() -> None:
    course = Course().go(EVERY + QUARANTINE - 1)
    assert course.back() == 0
    course = Course().go(EVERY + QUARANTINE)
    assert course.back() == EVERY


def test_an_ill_tick_drops_what_was_on_trial_and_keeps_what_was_good() -> None:
    course = Course().go(25).go(1, healthy=False).go(3)
    assert [state.tick for state in course.ring.states] == [0, 10]
    assert course.back() == 10


def test_no_state_is_taken_while_a_finding_is_open() -> None:
    course = Course().go(40).go(100, healthy=False)
    assert max(state.tick for state in course.ring.states) <= 30
    assert course.back() == 30


@pytest.mark.parametrize("ticks", [320, 500, 777, 1500, 3001, 6400])
def test_states_of_all_ages_are_held(ticks: int) -> None:
    """One of about 10, 30, 100 and 300 ticks each, spread wider where the training lasts long."""
    held, marks = Course().go(ticks).good_ages(), ages(ticks)
    for low, high in pairwise([*marks, 2 * marks[-1]]):
        assert any(0.8 * low <= age <= high + interval(ticks) for age in held), (low, high, held)


@pytest.mark.parametrize("ticks", [19, 100, 499, 1000, 2999, 5005])
def test_a_rollback_loses_at_most_two_per_cent_of_the_run_and_a_quarantine(ticks: int) -> None:
    lost = ticks - Course().go(ticks).back()
    assert lost < max(EVERY, ticks / 50) + EVERY + QUARANTINE


def test_states_are_taken_ever_more_rarely() -> None:
    course, taken = Course(), set()
    for _ in range(5000):
        course.go(1)
        taken.add(course.ring.states[-1].tick)
    gaps = np.diff(sorted(taken))
    assert (gaps[0], gaps[-1]) == (EVERY, 90)
    assert len(taken) < 200


def test_no_two_states_share_memory() -> None:
    """The memory of a state that is dropped is used again, of one that is held never."""
    course = Course()
    for _ in range(100):
        course.go(EVERY)
        states = course.ring.states
        assert len({kept.data_ptr() for s in states for _, kept in s.parameters}) == len(states)
        assert [kept.item() for s in states for _, kept in s.parameters] == [s.tick for s in states]


def test_a_model_that_changes_its_shape_gets_memory_of_its_own() -> None:
    course = Course().go(400)
    course.weight.data = torch.zeros(3, 1)
    course.go(400)
    assert course.back() > 780
    assert course.weight.shape == (3, 1)


def test_memory_is_bounded() -> None:
    course = Course()
    most = 0
    for _ in range(4000):
        course.go(1)
        most = max(most, len(course.ring.states))
    assert most <= 8


def test_only_states_older_than_the_finding_are_targets() -> None:
    course = Course().go(100)
    target = course.back(margin=40)
    assert target < 100 - 40
    with pytest.raises(RemedyRefused, match="before tick 0"):
        course.ring.rollback(0)


def test_a_relapse_goes_deeper() -> None:
    course = Course().go(200)
    first = course.back()
    second = course.go(5, healthy=False).back()
    third = course.go(5, healthy=False).back()
    assert first > second > third


def test_a_relapse_below_the_oldest_state_returns_to_the_oldest() -> None:
    course = Course().go(15)
    assert [course.back() for _ in range(3)] == [0, 0, 0]


def test_long_after_a_rollback_the_newest_good_state_is_the_target_again() -> None:
    course = Course().go(200)
    first = course.back()
    course.go(RELAPSE + EVERY + QUARANTINE)
    assert course.back() > first


def test_states_from_beyond_a_rollback_are_forgotten() -> None:
    course = Course().go(200)
    target = course.back()
    assert max(state.tick for state in course.ring.states) == target


def test_a_rollback_behind_a_surgery_undoes_it_first() -> None:
    course = Course().go(100)
    undone: list[float] = []
    course.run.operate(surgery("test", lambda: undone.append(course.weight.item())))
    course.go(5)
    assert course.back() < 100
    assert undone == [105.0]  # the weights were still those of after the surgery
    assert not course.run.surgeries


def test_a_state_from_after_a_surgery_that_was_undone_since_is_no_target() -> None:
    course = Course().go(100)
    course.run.operate(surgery("test"))
    course.go(30)
    course.run.undo_surgeries(())
    assert course.back() <= 100


def test_three_relapses_in_a_row_go_deeper_each_time() -> None:
    """Also where new states were taken and found good in between."""
    course = Course().go(700)
    depths = [course.go(25).back() if relapse else course.back() for relapse in range(4)]
    assert all(later < earlier for earlier, later in pairwise(depths)), depths
    assert 700 - depths[3] > 250


def test_the_next_target_is_told_before_it_is_used() -> None:
    course = Course().go(200)
    told = course.ring.target_tick(course.tick)
    assert told == course.back()
    assert course.ring.target_tick(0) is None


def test_a_rollback_that_was_only_tried_out_leaves_no_trace() -> None:
    course = Course().go(200)
    kept, weight = course.ring.keep(), course.tick
    before = (list(course.ring.states), set(course.ring.good))
    first = course.ring.rollback(course.tick)
    assert course.ring.rollback(course.tick) < first
    course.ring.put_back(kept)
    assert (course.ring.states, course.ring.good) == before
    assert course.ring.rollback(course.tick) == first
    assert weight == course.tick


def test_the_memory_of_a_state_that_a_keep_refers_to_is_not_used_again() -> None:
    course = Course().go(400)
    kept = course.ring.keep()
    course.go(2000)
    course.ring.put_back(kept)
    assert [copy.item() for s in course.ring.states for _, copy in s.parameters] == [s.tick for s in course.ring.states]
    assert course.back() <= 390


class Wide(Course):
    """A course whose state takes 4 kB, and whose ring may take so many of them."""

    def __init__(self, fit: float) -> None:
        super().__init__()
        self.weight.data = torch.zeros(1024, 1)
        self._write(0)
        self.ring = Ring(self.run, memory=int(fit * 4096))


def test_with_less_memory_fewer_ages_are_held_and_it_is_said() -> None:
    course = Wide(3.5).go(1000)
    assert max(len(course.ring.states), 3) == 3
    assert "10.0" not in course.ring.note
    assert "fewer of them are held" in course.ring.note
    oldest, newest = course.good_ages()[0], course.good_ages()[-1]
    assert oldest > 300
    assert newest < 50


@pytest.mark.parametrize(("fit", "held"), [(0.5, 0), (1.5, 1), (2.5, 2)])
def test_however_little_memory_there_is_it_is_not_exceeded(fit: float, held: int) -> None:
    course = Wide(fit)
    for _ in range(300):
        course.go(1)
        assert len(course.ring.states) <= held
    assert course.ring.available(course.tick) == (held > 0)
    assert course.ring.note


def test_where_no_state_fits_a_rollback_is_refused_with_the_reason() -> None:
    with pytest.raises(RemedyRefused, match=r"may take 0\.0 MiB"):
        Wide(0.5).go(50).back()


def test_with_enough_memory_there_is_nothing_to_say() -> None:
    assert not Course().go(500).ring.note
