"""The control loop. One tick, one direction: observe, diagnose, verify, decide, act, record.

Everything is judged before the optimizer step is taken, so that a bad gradient never reaches the weights. What
a detector sees are numbers, what a remedy gets is the run, and each decision is on disk before its remedy starts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from supervisor.acting import Actor
from supervisor.checkpoints import BufferGuard, Ring
from supervisor.diagnoses.examiner import Examiner, build_detectors
from supervisor.journal import Tape
from supervisor.policy import Policy
from supervisor.policy.decide import decide, guard
from supervisor.policy.ledger import Ledger
from supervisor.proving import Prover, Shown
from supervisor.records import UPSETTING, Decision, Finding, Outcome, Snapshot, Verdict
from supervisor.run import TrainingRun
from supervisor.signals import Sensor
from supervisor.verification import close_quiet, judge, not_back, overtaken
from supervisor.verification.recent import Recent
from supervisor.verification.trials import Budget, Trials

ODD = 3  # unusual losses in a row that make it worth a closer look
KNOWN = 24  # accepted gradient norms that tell what is usual
LEVEL = 20  # ticks whose median is the level of the loss
Losses = list[torch.Tensor]  # 0-dim, detached, one a micro-batch


class Form(Protocol):
    """A form of the train step that can re-run a batch."""

    planned: int | None  # steps of the whole run, as far as known

    def compute(self, batches: list[Any]) -> Losses:
        """Run forward and backward over the micro-batches of one step."""

    def replay(self, batches: list[Any]) -> torch.Tensor:
        """Run forward only, without gradients and without a trace; return the mean loss."""

    def quick_score(self) -> float:
        """Return the user's own score, lower is better; NaN where there is none, or it is too dear to ask often."""


class Supervisor:
    """Watches one training tick by tick, and treats it as its policy says."""

    def __init__(self, run: TrainingRun, policy: Policy, tape: Tape, form: Form | None = None) -> None:
        """Bind names to classes, look at the model, and keep its state before the first step if it may be needed.

        `form` re-runs batches where the form of the train step allows it: without one there are no trials.
        """
        self.run, self.policy, self.tape = run, policy, tape
        self.examiner = Examiner(build_detectors(policy.detecting), policy.context.admit)
        self.ledger = Ledger()
        fraction = getattr(self.examiner.detectors.get("dead_units"), "fraction", 1.0)
        self.sensor = Sensor(run, policy.observe.activations_every, suspicious=0.9 * fraction)
        self.guard = BufferGuard(run.model)
        self.actor = Actor(run, self.sensor, self.guard, tape)
        self.ring = Ring(run) if "rollback" in policy.remedies else None
        run.known_good = self.ring
        self.recent = Recent()
        self.prover = Prover(run, policy, self.ledger, tape, self.guard, self._trials(form))
        self.form = form
        self.findings: list[Finding] = []
        self.decisions: list[Decision] = []
        self.outcomes: list[Outcome] = []
        self.verdicts: list[Verdict] = []

    def _trials(self, form: Form | None) -> Trials | None:
        verify = self.policy.verify
        if form is None or not verify.trials or not verify.trial_budget:
            return None
        budget = Budget(verify.trial_steps, verify.trial_budget, form.planned)
        return Trials(self.run, form.compute, self.recent, budget, form.quick_score)

    def step(self, compute: Callable[[], Losses], batches: list[Any]) -> Snapshot:
        """Run one tick. `compute` runs forward and backward on `batches` and returns their losses."""
        now = self.observe(compute, batches)
        findings = self.diagnose(now)
        unhealed = self.verify(now)
        self.respond(now, findings or unhealed)
        self.advance(now)
        self.record(now)
        return now

    def observe(self, compute: Callable[[], Losses], batches: list[Any]) -> Snapshot:
        """Run forward and backward, and read the figures of the tick."""
        self.run.clock.tick += 1
        self.run.voided = ""
        self.guard.remember()
        self.recent.add(self.run.clock.tick, batches)
        with self.sensor.watching():
            losses = compute()
        self.shown = Shown(batches, losses)
        return self.sensor.snapshot(losses, batches)

    def diagnose(self, now: Snapshot) -> list[Finding]:
        """Return the findings of this tick; those that open an incident are journaled."""
        self.ledger.note_tick(now)
        findings = self.examiner.examine(now)
        if self.examiner.past.loss.outliers == 1:
            self.sensor.look_again()
        self.sensor.closer = bool(findings or self.ledger.incidents or self.examiner.past.loss.outliers >= ODD)
        if any(finding.pathology in UPSETTING for finding in findings):
            self.recent.note_upset(now.tick)
        for finding in self.ledger.note_findings(findings):
            self.findings.append(finding)
            self.tape.line("finding", finding)
        return findings

    def verify(self, now: Snapshot, *, over: bool = False) -> list[Finding]:
        """Give the verdicts that are due, and take back what made things worse.

        Return what is not healed though it is not seen any more: an upset training that has not come back to its level.
        """
        unhealed = []
        for incident in tuple(self.ledger.incidents.values()):
            probation = self.policy.verify.probation
            verdict = judge(incident, now, self.examiner.past, probation, over=over) or close_quiet(incident, now)
            if verdict is not None:
                self._close(verdict)
                if verdict.status == "persisted" and not_back(verdict):
                    unhealed.append(replace(incident.finding, tick=now.tick, step=now.step))
        return unhealed

    def _close(self, verdict: Verdict) -> None:
        """Note a verdict; take back what made things worse, and a clip that did not hold it."""
        probation = self.ledger.incidents[verdict.pathology].probation
        if verdict.status == "worsened" and probation is not None:
            verdict = replace(verdict, undone=self.actor.undo(probation.decisions[0]))
        if verdict.status != "resolved":
            self.actor.disarm(verdict.decisions)
        self.verdicts.append(verdict)
        self.tape.line("verdict", verdict)
        self.ledger.note_verdict(verdict, self.policy.limits.cooldown)

    def respond(self, now: Snapshot, findings: Sequence[Finding]) -> None:
        """Decide and act; where a rung is refused, decide again at once."""
        self.run.silent_units = self.sensor.silent_units() if findings else {}
        if not findings:
            return
        self._tell_run()
        while decided := decide(self.policy, self._open(findings), self.ledger):
            decisions = self.prover.proven(decided, self.shown, self.examiner.past.initial_loss)
            if not decisions or self._carry_out(now, decisions):
                break
        if not (now.finite or self.run.voided or self.run.stop_reason):
            guarding = guard(self.policy, self._open(findings), self.ledger)
            if guarding:
                self._carry_out(now, guarding)

    def _tell_run(self) -> None:
        """Let remedies know what is usual, and how this tick's batch can be run again."""
        past = self.examiner.past
        self.run.usual_norm = 10.0 ** past.log_grad_norm.upper(3.0, 0.0)
        self.run.usual_lr = statistics.median(past.lrs) if past.lrs else math.nan
        form, batches = self.form, self.shown.batches
        self.run.replay = None if form is None else lambda: form.replay(batches)

    def _carry_out(self, now: Snapshot, decisions: Sequence[Decision]) -> bool:
        """Journal a rung, act, and journal what it did; return whether all of it was applied."""
        self._note(decisions=decisions)
        self.ledger.note_decisions(decisions)
        outcomes = self.act(now, decisions)
        self._note(outcomes=outcomes)
        self.ledger.note_outcomes(decisions, outcomes, self._level_before(decisions[0].finding))
        return all(outcome.status == "applied" for outcome in outcomes)

    def _level_before(self, finding: Finding) -> tuple[float, float]:
        """Return the loss, and its noise, that a remedy for `finding` is measured against.

        An upset training has lost its level already: what was usual just before is what it must come back to.
        """
        past = self.examiner.past
        usual, noise = past.healthy_level(LEVEL)
        return (usual if finding.pathology in UPSETTING else past.level(LEVEL // 4)), noise

    def _open(self, findings: Sequence[Finding]) -> list[Finding]:
        return [finding for finding in findings if finding.pathology in self.ledger.incidents]

    def act(self, now: Snapshot, decisions: Sequence[Decision]) -> list[Outcome]:
        """Carry out a rung; a rollback behind another rung on probation ends that probation."""
        outcomes = self.actor.apply(decisions, now.grad_norm)
        if any(outcome.remedy == "rollback" and outcome.status == "applied" for outcome in outcomes):
            for incident in tuple(self.ledger.incidents.values()):
                if incident.finding.pathology != decisions[0].finding.pathology and incident.probation is not None:
                    self._close(overtaken(incident, now))
        return outcomes

    def advance(self, now: Snapshot) -> None:
        """Take the optimizer step, or leave the training as if this tick had never happened."""
        if self.run.voided or self.run.stop_reason:
            self.run.drop_gradients()
            self.guard.put_back()
            return
        self._follow_usual()
        self._note_firing(now)
        self.run.clip_gradients(now.grad_norm)
        self.sensor.before_step()
        self.run.take_step(now.loss)

    def _follow_usual(self) -> None:
        """Let a lasting automatic clip follow what is usual; where too little is known, it limits nothing."""
        clip, series = self.run.clip, self.examiner.past.log_grad_norm
        if clip is not None and clip.auto:
            limit = 10.0 ** series.upper(3.0, math.log10(2.0)) if len(series) >= KNOWN else math.inf
            self.run.clip = replace(clip, limit=limit)

    def _note_firing(self, now: Snapshot) -> None:
        """Journal the firing of a clip that an earlier decision left standing."""
        records = self.actor.fired(f"d{self.ledger.decisions + 1}", now.tick, now.step, now.grad_norm)
        if records is None:
            return
        decision, outcome = records
        self.ledger.decisions += 1
        self._note([decision], [outcome])

    def _note(self, decisions: Sequence[Decision] = (), outcomes: Sequence[Outcome] = ()) -> None:
        for decision in decisions:
            self.decisions.append(decision)
            self.tape.line("decision", decision)
        for outcome in outcomes:
            self.outcomes.append(outcome)
            self.tape.line("outcome", outcome)

    def record(self, now: Snapshot) -> None:
        """Hand the figures on, and let the ring of known-good states age."""
        self.tape.snapshot(now)
        if self.ring is not None:
            self.ring.tick(healthy=now.finite and not self.ledger.incidents)
            if self.ring.note and self.ring.note not in self.tape.notes:
                self.tape.note(self.ring.note)
