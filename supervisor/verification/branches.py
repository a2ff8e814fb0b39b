"""Short branches of a training, run in place from one state, and taken back without a trace.

`train_fn` closes over its model, so a copy of the model cannot be trained by it: every branch runs on the user's own
objects, from the same checkpoint, on the same recently consumed batches and with the same random numbers. What lies
outside of what a checkpoint holds (a counter in the user's code, an EMA that is not registered) would move on: hence
`in_trial()`, which tells such code, and the check that a batch gives the same loss twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor

from supervisor.checkpoints import BufferGuard, Checkpoint, capture, restore
from supervisor.errors import RemedyRefused
from supervisor.records import CLOCKED, Decision, Sample
from supervisor.registry import REMEDIES
from supervisor.run import TrainingRun
from supervisor.signals import Sensor
from supervisor.verification.figures import figure, pace
from supervisor.verification.weigh import Branch

Compute = Callable[[list[Any]], list[Tensor]]
"""Forward and backward over the micro-batches of one step; returns their losses."""

CONTROL: Final = "doing nothing"
SAMPLES: Final = 8  # passes at the end of a branch that are watched closely: enough to tell dead units from quiet ones
LOST: Final = 3  # non-finite losses in a row after which a branch is given up

_IN_TRIAL: Final[ContextVar[bool]] = ContextVar("in_trial", default=False)


def in_trial() -> bool:
    """Return whether `train_fn` runs in a trial: what it does besides computing the loss should not count then."""
    return _IN_TRIAL.get()


@contextmanager
def trial_passes() -> Iterator[None]:
    """Let `in_trial()` answer True inside."""
    token = _IN_TRIAL.set(True)
    try:
        yield
    finally:
        _IN_TRIAL.reset(token)


class Branches:
    """Runs branches from the state that a run is in now."""

    def __init__(self, run: TrainingRun, compute: Compute, evaluate: Callable[[], float] | None) -> None:
        """`compute` is the training's own; `evaluate` the user's score, lower is better."""
        self.run, self.compute, self.evaluate = run, compute, evaluate
        self.passes = 0  # spent so far

    @contextmanager
    def held(self) -> Iterator[Checkpoint]:
        """Give the state that branches start from; put everything back at the end, this tick's gradients too."""
        run, clock = self.run, self.run.clock
        here, tick = capture(run), clock.tick
        gradients = [(p, p.grad) for o in run.optimizers for g in o.param_groups for p in g["params"]]
        seen = (run.anatomy, run.before_backward, run.parameters, run.silent_units, run.voided, run.era)
        try:
            with trial_passes():
                yield here
        finally:
            self._back(here, tick)
            run.anatomy, run.before_backward, run.parameters, run.silent_units, run.voided, run.era = seen
            for parameter, gradient in gradients:
                parameter.grad = gradient

    def _back(self, here: Checkpoint, tick: int) -> None:
        self.run.clock.tick = tick
        restore(self.run, here)

    def repeats(self, here: Checkpoint, batches: list[Any], losses: Sequence[float]) -> tuple[str, bool]:
        """Return why a batch cannot be re-run, or nothing, and whether that could be told: NaN is like any other NaN.

        Two passes have to agree bit for bit. One that draws no random numbers must also give the `losses` that the tick
        itself had; () leaves that out.
        """
        tick, before = self.run.clock.tick, torch.get_rng_state()
        self._back(here, tick)
        try:
            first = self._losses(batches)
            drawn = self.run.device.type != "cpu" or not torch.equal(before, torch.get_rng_state())
            self._back(here, tick)
            second = self._losses(batches)
        except Exception as error:  # noqa: BLE001 - a batch that can be used only once must not end the training
            return f"a batch cannot be run again: {error!r}", True
        self._back(here, tick)
        if not _same(first, second):
            return f"the same batch gave {first[0]!r}, then {second[0]!r}: train_fn has side effects", True
        if losses and not (drawn or _same(first, losses)):
            return f"the batch gave {losses[0]!r} in its tick, and {first[0]!r} again: train_fn has side effects", True
        return "", all(map(math.isfinite, first))

    def _losses(self, batches: list[Any]) -> list[float]:
        self.passes += 1
        return [float(loss) for loss in self.compute(batches)]

    def refused(self, here: Checkpoint, decisions: Sequence[Decision]) -> Branch | None:
        """Return the branch of a rung that cannot be applied, with the reason; None where it can be."""
        try:
            with self._taken_back(here):
                why = self._apply(decisions)
        except Exception as error:  # noqa: BLE001 - a remedy's fault must not end the user's training
            why = f"it failed: {error!r}"
        return Branch(_name(decisions), decisions[0].rung, refused=why) if why else None

    def branch(
        self, here: Checkpoint, pathology: str, decisions: Sequence[Decision], groups: Sequence[list[Any]],
    ) -> Branch:  # fmt: skip
        """Take one step on each of `groups` under the remedies of a rung; without `decisions`, doing nothing.

        What raises in it, the user's code on a changed model too, is taken back and told as a refusal.
        """
        name, rung = _name(decisions), decisions[0].rung if decisions else -1
        try:
            with self._taken_back(here):
                if why := self._apply(decisions):
                    return Branch(name, rung, refused=why)
                losses, last = self._train(groups)
                health = math.nan if last is None else figure(pathology, last, self.run.anatomy)
                speed = math.nan if last is None else pace(last)
                return Branch(name, rung, tuple(losses), self._score(), health, speed)
        except Exception as error:  # noqa: BLE001 - it would not have happened without the trial
            return Branch(name, rung, refused=f"it failed: {error!r}")

    @contextmanager
    def _taken_back(self, here: Checkpoint) -> Iterator[None]:
        """Put everything back that a branch may change, also what remedies set on the clock of ticks."""
        run, tick, ring = self.run, self.run.clock.tick, self.run.known_good
        kept = (run.settings, run.batches_to_skip, run.rewind, run.voided, run.stop_reason)
        held = None if ring is None else ring.keep()
        try:
            yield
        finally:
            run.settings, run.batches_to_skip, run.rewind, run.voided, run.stop_reason = kept
            if ring is not None:
                ring.put_back(held)
            self._back(here, tick)

    def _apply(self, decisions: Sequence[Decision]) -> str:
        for decision in sorted(decisions, key=lambda d: d.remedy not in CLOCKED):
            try:
                REMEDIES[decision.remedy](**decision.params).apply(self.run, decision)
            except RemedyRefused as refusal:
                return str(refusal)
        return ""

    def _train(self, groups: Sequence[list[Any]]) -> tuple[list[float], Sample | None]:
        """Take the steps; return the losses before each, and what the last pass showed."""
        run = self.run
        guard, sensor = BufferGuard(run.model), None
        losses: list[float] = []
        last: Sample | None = None
        for index, batches in enumerate(groups):
            run.clock.tick += 1
            guard.remember()
            if sensor is None and index >= len(groups) - SAMPLES:
                sensor = Sensor(run, 1)
                sensor.closer = True  # a sample at every pass
            loss, norm, last = self._pass(batches, sensor)
            losses.append(loss)
            if math.isfinite(loss) and math.isfinite(norm):
                if sensor is not None:
                    sensor.before_step()
                run.clip_gradients(norm)
                run.take_step(loss)
            else:
                run.drop_gradients()
                guard.put_back()
            if not any(map(math.isfinite, losses[-LOST:])) and len(losses) >= LOST:
                break
        return losses, last

    def _pass(self, batches: list[Any], sensor: Sensor | None) -> tuple[float, float, Sample | None]:
        self.passes += 1
        if sensor is not None:
            with sensor.watching():
                losses = self.compute(batches)
            now = sensor.snapshot(losses, batches)
            return now.loss, now.grad_norm, now.sample
        losses = self.compute(batches)
        gradients = [p.grad for p in self.run.parameters if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        return float(torch.stack(losses).mean()), norm, None

    def _score(self) -> float:
        return math.nan if self.evaluate is None else self.evaluate()


def _name(decisions: Sequence[Decision]) -> str:
    """Return the remedies of a rung with what tells them from others: "rollback + lower_lr 0.1"."""
    told = (" ".join([d.remedy, *(f"{v}" for v in d.params.values())]) for d in decisions)
    return " + ".join(told) or CONTROL


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in zip(a, b, strict=True))
