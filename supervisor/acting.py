"""Applies the rungs of a ladder to a run, each as one, and takes them back.

Before a rung that changes the model or its course, the whole state is kept: what made things worse is undone to
exactly that. A rollback is never taken back, because the state before it was ill. So what only sets the clock of
ticks (the learning rate) is applied before a rollback of the same rung: where it is refused, nothing has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from supervisor.checkpoints import BufferGuard, Checkpoint, capture, restore
from supervisor.errors import RemedyRefused
from supervisor.journal import Tape
from supervisor.rates import exceeding
from supervisor.records import CLIPPED, CLIPS, CLOCKED, RENEWING, WITHIN_THE_TICK, Decision, Outcome
from supervisor.registry import REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import Settings, Surgery, TrainingRun
from supervisor.signals import Sensor

Done = list[tuple[Decision, Effect]]


@dataclass(frozen=True)
class _Before:
    """What a rung is undone to."""

    checkpoint: Checkpoint
    settings: Settings


class Actor:
    """The only one who lets remedies touch the run."""

    def __init__(self, run: TrainingRun, sensor: Sensor, guard: BufferGuard, tape: Tape) -> None:
        """`sensor` and `guard` look at the model anew after it was changed."""
        self.run, self.sensor, self.guard, self.tape = run, sensor, guard, tape
        self._before: dict[str, _Before] = {}  # first decision of a rung: what to undo it to
        self._clip_by: Decision | None = None  # who set the clip that holds

    def apply(self, decisions: Sequence[Decision], grad_norm: float) -> list[Outcome]:
        """Apply a rung as one: where a remedy is refused or fails, what was done before it is taken back."""
        course = any(decision.remedy not in WITHIN_THE_TICK for decision in decisions)
        voided, surgeries = self.run.voided, tuple(self.run.surgeries)
        buffers = self.guard.put_back() if course else []  # what this tick's forward did to them is void
        before = _Before(capture(self.run), self.run.settings) if course else None
        done: Done = []
        for decision in sorted(decisions, key=lambda d: d.remedy not in CLOCKED):
            try:
                effect = REMEDIES[decision.remedy](**decision.params).apply(self.run, decision)
            except RemedyRefused as refusal:
                if not _rolled_back(done):
                    for _, earlier in reversed(done):
                        earlier.undo()
                    self.run.voided = voided
                    self.guard.put_forward(buffers)
                return self._fallen(decisions, decision, done, "refused", str(refusal))
            except Exception as error:  # noqa: BLE001 - a remedy's fault must not end the user's training
                if not _rolled_back(done) and before is not None:
                    self._put_back(before)
                self.run.void_step(f"{decision.remedy} failed")
                return self._fallen(decisions, decision, done, "failed", repr(error))
            done.append((decision, effect))
        self._applied(done, before, surgeries)
        return [self._outcome(decision, effect, grad_norm) for decision, effect in done]

    def undo(self, first: Decision) -> bool:
        """Take back the rung that `first` began, if its state before was kept; return whether it was."""
        before = self._before.pop(first.id, None)
        if before is None:
            return False
        surgeries = tuple(self.run.surgeries)
        self._put_back(before)
        self.run.void_step("the state the gradients belong to was taken back")
        self._look_anew(surgeries)
        return True

    def disarm(self, decisions: Sequence[str]) -> None:
        """Take away the clip that one of `decisions` set: one that does not hold it only slows what comes next."""
        if self._clip_by is not None and self._clip_by.id in decisions:
            self.run.clip = None

    def fired(self, identity: str, tick: int, step: int, grad_norm: float) -> tuple[Decision, Outcome] | None:
        """Return the records of a clip that an earlier decision left standing and that fired in this tick."""
        by, clip = self._clip_by, self.run.clip
        if by is None or clip is None or by.tick == tick or tick > clip.until:
            return None
        figure = exceeding(self.run.parameters, clip.kind, clip.limit, grad_norm)
        if figure is None:
            return None
        what = "gradient norm" if clip.kind == "norm" else "largest gradient element"
        reason = f"standing clip of {by.id}: {what} {figure:.3g}, limit {clip.limit:.3g}"
        decision = replace(by, id=identity, reason=reason, tick=tick, step=step)
        changes = {CLIPPED[clip.kind]: (figure, clip.limit)}
        return decision, Outcome(identity, by.remedy, "applied", tick, step, changes=changes)

    def _applied(self, done: Done, before: _Before | None, surgeries: tuple[Surgery, ...]) -> None:
        for decision, _ in done:
            if decision.remedy in CLIPS:
                self._clip_by = decision
        if before is not None:
            self._before = {} if _rolled_back(done) else {done[0][0].id: before}
            self.run.renewals += any(decision.remedy in RENEWING for decision, _ in done)
            self._look_anew(surgeries)

    def _outcome(self, decision: Decision, effect: Effect, grad_norm: float) -> Outcome:
        """Return what was done; a clip counts in the ticks in which it fires, and this may be one."""
        changes, clip = dict(effect.changes), self.run.clip
        armed = decision.remedy in CLIPS and clip is not None and not self.run.voided
        if armed and clip is not None:
            figure = exceeding(self.run.parameters, clip.kind, clip.limit, grad_norm)
            if figure is not None:
                changes[CLIPPED[clip.kind]] = (figure, clip.limit)
        return Outcome(decision.id, decision.remedy, "applied", decision.tick, decision.step, changes=changes)

    def _put_back(self, before: _Before) -> None:
        restore(self.run, before.checkpoint)
        self.run.settings = before.settings

    def _look_anew(self, surgeries: tuple[Surgery, ...]) -> None:
        """Journal what became of the structure, and look at the model as it is now."""
        for surgery in self.run.surgeries:
            if surgery not in surgeries:
                self.tape.line("model_change", {"change": surgery.change})
        for surgery in reversed(surgeries):
            if surgery not in self.run.surgeries:
                self.tape.line("model_change", {"change": surgery.change, "undone": True})
        self.sensor.refresh()
        self.guard.bind(self.run.model)
        self.guard.remember()

    def _fallen(
        self, decisions: Sequence[Decision], culprit: Decision, done: Done,
        status: Literal["refused", "failed"], why: str,
    ) -> list[Outcome]:  # fmt: skip
        """Return the outcomes of a rung that one remedy could not be applied in."""
        kept = {decision.id: effect for decision, effect in done} if _rolled_back(done) else {}
        if kept:
            self._before = {}
            self._look_anew(tuple(self.run.surgeries))
        taken_back = f"taken back: {culprit.remedy} was {status}, and a rung is applied as one"
        outcomes = []
        for d in decisions:
            if d is culprit:
                outcomes.append(Outcome(d.id, d.remedy, status, d.tick, d.step, why))
            elif d.id in kept:
                outcomes.append(Outcome(d.id, d.remedy, "applied", d.tick, d.step, changes=kept[d.id].changes))
            else:
                outcomes.append(Outcome(d.id, d.remedy, "failed", d.tick, d.step, taken_back))
        return outcomes


def _rolled_back(done: Done) -> bool:
    return any(decision.remedy == "rollback" for decision, _ in done)
