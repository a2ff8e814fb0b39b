"""The control loop. One tick, one direction: observe, diagnose, verify, decide, act, record.

Everything is judged before the optimizer step is taken, so that a bad gradient never reaches the weights. What
a detector sees are numbers, what a remedy gets is the run, and each decision is on disk before its remedy starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from supervisor.checkpoints import BufferGuard, Checkpoint, Ring, capture, restore
from supervisor.diagnoses.examiner import Examiner, build_detectors
from supervisor.errors import RemedyRefused
from supervisor.journal import Tape
from supervisor.policy import Policy
from supervisor.policy.decide import decide
from supervisor.policy.ledger import Incident, Ledger
from supervisor.records import REFLEXES, UPSETTING, Decision, Finding, Outcome, Snapshot, Verdict
from supervisor.registry import REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import Clip, TrainingRun
from supervisor.signals import Sensor
from supervisor.verification import close_quiet, judge

LEVEL = 20  # ticks whose median is the level of the loss
Losses = list[torch.Tensor]  # 0-dim, detached, one a micro-batch

_WITHIN_THE_TICK = REFLEXES | {"advise", "stop"}


@dataclass(frozen=True)
class _Before:
    """What a rung is undone to."""

    checkpoint: Checkpoint
    lr_multiplier: float
    clip: Clip | None


class Supervisor:
    """Watches one training tick by tick, and treats it as its policy says."""

    def __init__(self, run: TrainingRun, policy: Policy, tape: Tape) -> None:
        """Bind names to classes, look at the model, and keep its state before the first step if it may be needed."""
        self.run, self.policy, self.tape = run, policy, tape
        self.examiner = Examiner(build_detectors(policy.detect))
        self.ledger = Ledger()
        fraction = getattr(self.examiner.detectors.get("dead_units"), "fraction", 1.0)
        self.sensor = Sensor(run, policy.observe.activations_every, suspicious=0.9 * fraction)
        self.guard = BufferGuard(run.model)
        self.ring = Ring(run) if "rollback" in policy.remedies else None
        run.known_good = self.ring
        self.findings: list[Finding] = []
        self.decisions: list[Decision] = []
        self.outcomes: list[Outcome] = []
        self.verdicts: list[Verdict] = []
        self._before: dict[str, _Before] = {}  # first decision of a rung: what to undo it to
        self._clip_by: Decision | None = None  # who set the clip that holds

    def step(self, compute: Callable[[], Losses], batches: list[Any]) -> Snapshot:
        """Run one tick. `compute` runs forward and backward on `batches` and returns their losses."""
        now = self.observe(compute, batches)
        findings = self.diagnose(now)
        self.verify(now)
        self.respond(findings)
        self.advance(now)
        self.record(now)
        return now

    def observe(self, compute: Callable[[], Losses], batches: list[Any]) -> Snapshot:
        """Run forward and backward, and read the figures of the tick."""
        self.run.clock.tick += 1
        self.run.voided = ""
        self.guard.remember()
        with self.sensor.watching():
            losses = compute()
        return self.sensor.snapshot(losses, batches)

    def diagnose(self, now: Snapshot) -> list[Finding]:
        """Return the findings of this tick; those that open an incident are journaled."""
        self.ledger.note_tick(now)
        findings = self.examiner.examine(now)
        for finding in self.ledger.note_findings(findings):
            self.findings.append(finding)
            self.tape.line("finding", finding)
        return findings

    def verify(self, now: Snapshot, *, over: bool = False) -> None:
        """Give the verdicts that are due, and take back what made things worse."""
        for incident in tuple(self.ledger.incidents.values()):
            probation = self.policy.verify.probation
            verdict = judge(incident, now, self.examiner.past, probation, over=over) or close_quiet(incident, now)
            if verdict is None:
                continue
            if verdict.status == "worsened":
                verdict = replace(verdict, undone=self._undo(incident))
            if verdict.status != "resolved" and self._clip_by is not None and self._clip_by.id in verdict.decisions:
                self.run.clip = None  # a clip that does not hold it only slows what comes next
            self.verdicts.append(verdict)
            self.tape.line("verdict", verdict)
            self.ledger.note_verdict(verdict, self.policy.limits.cooldown)

    def respond(self, findings: Sequence[Finding]) -> None:
        """Decide and act; where a rung is refused, decide again at once."""
        self.run.silent_units = self.sensor.silent_units() if findings else {}
        while decisions := decide(self.policy, self._open(findings), self.ledger):
            for decision in decisions:
                self.decisions.append(decision)
                self.tape.line("decision", decision)
            self.ledger.note_decisions(decisions)
            outcomes = self.act(decisions)
            for outcome in outcomes:
                self.outcomes.append(outcome)
                self.tape.line("outcome", outcome)
            self.ledger.note_outcomes(decisions, outcomes, self._level_before(decisions[0].finding))
            if all(outcome.status == "applied" for outcome in outcomes):
                break

    def _level_before(self, finding: Finding) -> tuple[float, float]:
        """Return the loss, and its noise, that a remedy for `finding` is measured against.

        An upset training has lost its level already: what was usual just before is what it must come back to.
        """
        past = self.examiner.past
        usual, noise = past.healthy_level(LEVEL)
        return (usual if finding.pathology in UPSETTING else past.level(LEVEL // 4)), noise

    def _open(self, findings: Sequence[Finding]) -> list[Finding]:
        return [finding for finding in findings if finding.pathology in self.ledger.incidents]

    def act(self, decisions: Sequence[Decision]) -> list[Outcome]:
        """Apply a rung as one: where one of its remedies is refused, all are taken back."""
        course = any(decision.remedy not in _WITHIN_THE_TICK for decision in decisions)
        voided, surgeries = self.run.voided, len(self.run.surgeries)
        buffers = self.guard.put_back() if course else []  # what this tick's forward did to them is void
        before = _Before(capture(self.run), self.run.lr_multiplier, self.run.clip) if course else None
        done: list[tuple[Decision, Effect]] = []
        for decision in decisions:
            try:
                effect = REMEDIES[decision.remedy](**decision.params).apply(self.run, decision)
            except RemedyRefused as refusal:
                self._take_back(done, before)
                if not any(earlier.remedy == "rollback" for earlier, _ in done):
                    self.run.voided = voided
                    self.guard.put_forward(buffers)
                return _fallen(decisions, decision, "refused", str(refusal))
            except Exception as error:  # noqa: BLE001 - a remedy's fault must not end the user's training
                self._put_back(before)
                self.run.void_step(f"{decision.remedy} failed")
                return _fallen(decisions, decision, "failed", repr(error))
            done.append((decision, effect))
        self._applied(decisions, before, surgeries)
        return [Outcome(d.id, d.remedy, "applied", d.tick, d.step, changes=e.changes) for d, e in done]

    def _take_back(self, done: list[tuple[Decision, Effect]], before: _Before | None) -> None:
        for _, effect in reversed(done):
            effect.undo()
        if any(decision.remedy == "rollback" for decision, _ in done):
            self._put_back(before)

    def _applied(self, decisions: Sequence[Decision], before: _Before | None, surgeries: int) -> None:
        for decision in decisions:
            if decision.remedy in ("clip_norm", "clip_value"):
                self._clip_by = decision
        if before is None:
            return
        # The state before a rollback was ill: there is nothing to go back to.
        rolled_back = any(decision.remedy == "rollback" for decision in decisions)
        self._before = {} if rolled_back else {decisions[0].id: before}
        for surgery in self.run.surgeries[surgeries:]:
            self.tape.line("model_change", {"change": surgery.change})
        self._refresh()

    def _refresh(self) -> None:
        """Look at the model anew: its structure or its state has changed within the tick."""
        self.sensor.refresh()
        self.guard.bind(self.run.model)
        self.guard.remember()

    def _undo(self, incident: Incident) -> bool:
        probation = incident.probation
        before = self._before.pop(probation.decisions[0].id, None) if probation is not None else None
        if before is None:
            return False
        self._put_back(before)
        self.run.void_step("the state the gradients belong to was taken back")
        self._refresh()
        return True

    def _put_back(self, before: _Before | None) -> None:
        if before is None:
            return
        restore(self.run, before.checkpoint)
        self.run.lr_multiplier, self.run.clip = before.lr_multiplier, before.clip

    def advance(self, now: Snapshot) -> None:
        """Take the optimizer step, or leave the training as if this tick had never happened."""
        if self.run.voided or self.run.stop_reason:
            self.run.drop_gradients()
            self.guard.put_back()
            return
        if self.run.clip_gradients(now.grad_norm):
            self._journal_standing_clip(now)
        self.sensor.before_step()
        self.run.take_step(now.loss)

    def _journal_standing_clip(self, now: Snapshot) -> None:
        """Journal the firing of a clip that an earlier decision left standing."""
        by, clip = self._clip_by, self.run.clip
        if by is None or clip is None or by.tick == now.tick:
            return
        self.ledger.decisions += 1
        reason = f"standing clip of {by.id}: gradient norm {now.grad_norm:.3g}, limit {clip.limit:.3g}"
        fired = replace(by, id=f"d{self.ledger.decisions}", reason=reason, tick=now.tick, step=now.step)
        self.decisions.append(fired)
        self.tape.line("decision", fired)
        changes = {"grad_norm": (now.grad_norm, clip.limit)}
        self.outcomes.append(Outcome(fired.id, fired.remedy, "applied", now.tick, now.step, changes=changes))
        self.tape.line("outcome", self.outcomes[-1])

    def record(self, now: Snapshot) -> None:
        """Hand the figures on, and let the ring of known-good states age."""
        self.tape.snapshot(now)
        if self.ring is not None:
            self.ring.tick(healthy=now.finite and not self.ledger.incidents)


def _fallen(decisions: Sequence[Decision], culprit: Decision, status: str, why: str) -> list[Outcome]:
    """Return the outcomes of a rung that one remedy could not be applied in."""
    outcomes = []
    for decision in decisions:
        what, reason = status, why
        if decision is not culprit:
            what, reason = "failed", f"taken back: {culprit.remedy} was {status}, and a rung is applied as one"
        outcomes.append(Outcome(decision.id, decision.remedy, what, decision.tick, decision.step, reason))  # type: ignore[arg-type]
    return outcomes
