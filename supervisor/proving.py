"""A rung that changes the model or its course is carried out only after it beat doing nothing.

Reflexes, advice and a stop need no proof. Where no trial can be held (the form cannot re-run a batch, the budget is
spent, the policy has switched trials off) a rung is carried out unproven, and its probation has to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from torch import Tensor

from supervisor.checkpoints import BufferGuard
from supervisor.journal import Tape
from supervisor.policy import Policy
from supervisor.policy.decide import contenders
from supervisor.policy.ledger import Ledger
from supervisor.records import RUINED_STATE, WITHIN_THE_TICK, Decision
from supervisor.run import TrainingRun
from supervisor.verification.trials import Question, Trial, Trials

LEARNED: Final = 0.05  # of the first loss: having fallen by less, a training has learned nothing that could be lost
FIRST: Final = 8  # ticks: before them there are too few batches to try anything on, and a state to return to is at hand


@dataclass(frozen=True)
class Shown:
    """What a tick was computed from, and what came of it."""

    batches: list[Any]
    losses: list[Tensor]  # 0-dim, detached, one a micro-batch


class Prover:
    """Holds a trial before a rung is carried out."""

    def __init__(
        self, run: TrainingRun, policy: Policy, ledger: Ledger, tape: Tape, guard: BufferGuard, trials: Trials | None,
    ) -> None:  # fmt: skip
        """`trials` is None where none can be held, or the policy wants none."""
        self.run, self.policy, self.ledger, self.tape, self.guard = run, policy, ledger, tape, guard
        self.trials = trials
        self._undecided: dict[str, dict[int, float]] = {}  # by pathology and rung, the loss it came to
        self.held: list[Mapping[str, Any]] = []  # as the journal holds them

    @property
    def passes(self) -> int:
        """Passes that trials took so far."""
        return 0 if self.trials is None else self.trials.passes

    def proven(self, decisions: Sequence[Decision], shown: Shown, initial_loss: float) -> Sequence[Decision]:
        """Return the rung to carry out: the one decided, the winner of a trial, or none.

        `initial_loss` is where the training began.
        """
        needs_proof = any(decision.remedy not in WITHIN_THE_TICK for decision in decisions)
        if not needs_proof or self.trials is None or self.trials.off:
            return decisions
        if self.run.clock.tick < FIRST:
            return ()
        rungs = contenders(self.policy, decisions[0].finding, self.ledger)
        question = self.trials.ask(rungs, self.policy.verify.probation)
        if question is None:
            worst = max(float(loss) for loss in shown.losses)
            ruined = decisions[0].finding.evidence.get("origin") in RUINED_STATE
            lost = ruined or not worst < initial_loss - LEARNED * abs(initial_loss)
            return self._unproven(decisions, rungs, lost=lost)
        trial = self._hold(self.trials, question, shown)
        if trial is None:
            self.tape.note(f"no trials in this run: {self.trials.off}")
            return decisions
        return self._chosen(question, trial)

    def _unproven(
        self, decisions: Sequence[Decision], rungs: Sequence[Sequence[Decision]], *, lost: bool,
    ) -> Sequence[Decision]:  # fmt: skip
        """Return what is carried out where no trial can be paid for.

        Where others were held before, the budget is spent: then only a training that has nothing to lose is acted
        upon, one whose loss is where it began, above that, or not finite.
        """
        finding = decisions[0].finding
        if not self.passes:
            return decisions
        if lost:
            return self._most_promising(rungs, finding.pathology) or rungs[0]
        self.tape.note(f"{finding.pathology}: {decisions[0].remedy} is not tried, the budget for trials is spent")
        spent = [rung[0].rung for rung in rungs]
        self.ledger.note_trial(finding.pathology, finding.tick, None, spent, (), 2 * self.policy.verify.probation)
        return ()

    def _most_promising(self, rungs: Sequence[Sequence[Decision]], pathology: str) -> Sequence[Decision]:
        """Return the rung that did best in a trial that nothing won, unless it was worse than doing nothing."""
        known = self._undecided.get(pathology, {})
        tried = [rung for rung in rungs if rung[0].rung in known]
        return min(tried, key=lambda rung: known[rung[0].rung], default=())

    def _hold(self, trials: Trials, question: Question, shown: Shown) -> Trial | None:
        """Journal what is asked, hold the trial, and journal what came of it."""
        arms = [[f"{d.remedy} {dict(d.params)}" if d.params else d.remedy for d in rung] for rung in question.rungs]
        cause = question.rungs[0][0].finding.cause
        asked = {"id": question.id, "phase": "began", "pathology": question.pathology, "cause": cause, "arms": arms}
        self.tape.line("trial", asked)
        there = self.guard.put_back()  # branches start from the buffers as they were before this tick
        try:
            trial = trials.hold(question, shown.batches, [float(loss) for loss in shown.losses])
        finally:
            self.guard.put_forward(there)
        if trial is not None:
            clock = self.run.clock
            self.held.append({"tick": clock.tick, "step": clock.step, **_plain(trial), "phase": "ended"})
            self.tape.line("trial", self.held[-1])
        return trial

    def _chosen(self, question: Question, trial: Trial) -> Sequence[Decision]:
        """Tell the ledger how the trial ended; return the winner's decisions, with what it won by."""
        results = {kind: [w.branch.rung for w in trial.arms if w.result == kind] for kind in ("lost", "undecided")}
        refused = [w.branch.rung for w in trial.arms if w.result == "refused"]
        undecided = [w.branch for w in trial.arms if w.result == "undecided"]
        self._undecided[trial.pathology] = {branch.rung: branch.level for branch in undecided}
        lost = results["lost"] + (results["undecided"] if trial.winner is None else [])
        wait = 2 * self.policy.verify.probation if trial.passes else 0
        self.ledger.note_trial(trial.pathology, self.run.clock.tick, trial.winner, lost, refused, wait)
        for rung in question.rungs:
            if rung[0].rung == trial.winner:
                return [replace(d, reason=f"{d.reason}; trial {trial.id}: {trial.reason}") for d in rung]
        return ()


def _plain(trial: Trial) -> dict[str, Any]:
    """Return a trial as the journal holds it: losses to six digits, which is more than anybody compares by eye."""
    branches = [trial.control, *(weighed.branch for weighed in trial.arms)]
    results = [("control", ""), *((weighed.result, weighed.reason) for weighed in trial.arms)]
    arms = [
        {
            "name": branch.name,
            "rung": branch.rung,
            "result": result,
            "reason": reason,
            "losses": [float(f"{loss:.6g}") for loss in branch.losses],
            "score": branch.score,
            "figure": branch.figure,
            "pace": branch.pace,
        }
        for branch, (result, reason) in zip(branches, results, strict=True)
    ]
    told = {"id": trial.id, "pathology": trial.pathology, "steps": trial.steps, "passes": trial.passes}
    return {**told, "winner": trial.winner, "reason": trial.reason, "arms": arms}
