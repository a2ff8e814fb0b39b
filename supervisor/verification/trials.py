"""Trials with a control arm: the next rungs, and doing nothing, on the same batches from the same state.

A remedy that changes the model or its course is committed only where it beats doing nothing. The cost is bounded: all
passes of all trials are at most `budget` times those of the run. What cannot be tried (a form that cannot re-run a
batch, side effects, a budget that is spent) falls back to probation with undo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from supervisor.checkpoints import Checkpoint
from supervisor.records import Decision
from supervisor.run import TrainingRun
from supervisor.verification.branches import CONTROL, Branches, Compute
from supervisor.verification.recent import Recent
from supervisor.verification.weigh import Branch, Weighed, weigh, winner

MOST_ARMS: Final = 4  # beside doing nothing
FEWEST_STEPS: Final = 8
MOST_STEPS: Final = 50
SHARE: Final = 0.6  # of what is left of the budget, for one trial
CHECKS: Final = 2  # passes that show that a batch can be re-run

Rung = Sequence[Decision]


@dataclass(frozen=True)
class Budget:
    """How long a branch is, and what all trials of a run may cost."""

    steps: int | Literal["auto"] = "auto"  # of one branch
    share: float = 0.15  # passes, as a share of those of the run
    planned: int | None = None  # steps of the whole run, as far as known


@dataclass(frozen=True)
class Question:
    """What a trial is to answer."""

    id: str
    rungs: tuple[Rung, ...]  # the arms beside doing nothing
    steps: int  # of one branch
    probation: int

    @property
    def pathology(self) -> str:
        """The illness that all rungs answer."""
        return self.rungs[0][0].finding.pathology if self.rungs else ""


@dataclass(frozen=True)
class Trial:
    """What came of a trial, for the journal."""

    id: str
    pathology: str
    steps: int  # of a branch
    passes: int  # forward and backward passes, all branches together
    control: Branch
    arms: tuple[Weighed, ...]
    winner: int | None  # the rung that is committed; None: none beat doing nothing
    reason: str


class Trials:
    """Holds the trials of one run."""

    def __init__(
        self, run: TrainingRun, compute: Compute, recent: Recent, budget: Budget,
        evaluate: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        """`recent` holds the batches to try on; `evaluate` is the user's score, None where it is not to be asked."""
        self.run, self.recent, self.budget = run, recent, budget
        self.branches = Branches(run, compute, evaluate)
        self.off = ""  # why none is held any more
        self._asked = 0
        self._checked = False

    @property
    def passes(self) -> int:
        """Passes spent so far."""
        return self.branches.passes

    @property
    def _left(self) -> float:
        """Passes that may still be spent."""
        return self.budget.share * max(self.budget.planned or 0, self.run.clock.tick) - self.passes - CHECKS

    def ask(self, rungs: Sequence[Rung], probation: int) -> Question | None:
        """Return the trial of `rungs`; None where none can be held, or not even one of them can be paid for."""
        least = FEWEST_STEPS if self.budget.steps == "auto" else self.budget.steps
        if self.off or not rungs or not self.recent.usable(1) or SHARE * self._left < 2 * least:
            return None
        self._asked += 1
        return Question(f"t{self._asked}", tuple(rungs), least, probation)

    def _planned(self, here: Checkpoint, question: Question) -> tuple[Question, list[Branch]]:
        """Return the question with the rungs that fit and can be paid for, and steps; and the rungs that do not fit."""
        tried = {id(rung): self.branches.refused(here, rung) for rung in question.rungs}
        refused = [branch for branch in tried.values() if branch is not None]
        fit = [rung for rung in question.rungs if tried[id(rung)] is None]
        affordable = int(SHARE * self._left / question.steps) - 1
        chosen = tuple(fit[: max(1, min(MOST_ARMS, affordable))])
        steps = question.steps
        if self.budget.steps == "auto":
            steps = max(steps, min(MOST_STEPS, int(SHARE * self._left / (len(chosen) + 1))))
        return replace(question, rungs=chosen, steps=steps), refused

    def hold(self, question: Question, batches: list[Any], losses: Sequence[float]) -> Trial | None:
        """Try the rungs of a question, and leave no trace. None where a batch cannot be re-run: see `off`.

        `batches` are those of this tick, and `losses` what they gave.
        """
        before, pathology = self.passes, question.pathology
        with self.branches.held() as here:
            if not self._repeats(here, batches, losses):
                return None
            question, refused = self._planned(here, question)
            if not question.rungs:
                return _none_fits(question, pathology, refused)
            control, arms = self._round(here, question)
            if control.refused:
                self.off = f"doing nothing on recent batches {control.refused.removeprefix('it ')}"
                return None
            arms += [Weighed(branch, "refused", branch.refused) for branch in refused]
            steps = question.steps
            if winner(pathology, control, arms) is None and (longer := self._longer(question, arms)) is not None:
                control, (again,) = self._round(here, longer)
                arms = [again if arm.branch.rung == again.branch.rung else arm for arm in arms]
                steps = longer.steps
        best = winner(pathology, control, arms)
        rung = None if best is None else best.branch.rung
        passes = self.passes - before
        return Trial(question.id, pathology, steps, passes, control, tuple(arms), rung, _reason(best, arms, steps))

    def _repeats(self, here: Checkpoint, batches: list[Any], losses: Sequence[float]) -> bool:
        """Check once in a run that a batch can be re-run: on this tick's, or if it is ill itself on a usual one."""
        if not self._checked:
            ill = not all(map(math.isfinite, losses))
            group = self.recent.usable(1)[0] if ill else batches
            self.off, self._checked = self.branches.repeats(here, group, () if ill else losses)
        return not self.off

    def _round(self, here: Checkpoint, question: Question) -> tuple[Branch, list[Weighed]]:
        held = self.recent.usable(question.steps)
        groups = [held[i % len(held)] for i in range(question.steps)]  # again from the first where they are too few
        control = self.branches.branch(here, question.pathology, (), groups)
        arms = [self.branches.branch(here, question.pathology, rung, groups) for rung in question.rungs]
        return control, weigh(question.pathology, control, arms, question.probation)

    def _longer(self, question: Question, arms: Sequence[Weighed]) -> Question | None:
        """Return the question whether the most promising undecided arm wins in twice the time, if it can be paid."""
        steps = min(2 * question.steps, MOST_STEPS, int(self._left / 2))
        promising = [arm for arm in arms if arm.result == "undecided"]
        if not promising or steps <= question.steps:
            return None
        chosen = min(promising, key=lambda arm: arm.branch.level).branch.rung
        return replace(question, rungs=tuple(r for r in question.rungs if r[0].rung == chosen), steps=steps)


def _none_fits(question: Question, pathology: str, refused: Sequence[Branch]) -> Trial:
    arms = tuple(Weighed(branch, "refused", branch.refused) for branch in refused)
    return Trial(question.id, pathology, 0, 0, Branch(CONTROL, -1), arms, None, "no rung could be applied")


def _reason(best: Weighed | None, arms: Sequence[Weighed], steps: int) -> str:
    if best is not None:
        return f"{best.branch.name} won after {steps} steps: {best.reason}"
    told = "; ".join(f"{arm.branch.name}: {arm.result}, {arm.reason}" for arm in arms)
    return f"nothing beat doing nothing in {steps} steps ({told})"
