"""A ledger and a policy, and what happens to them, without a training."""

from __future__ import annotations

from typing import Any

from supervisor.policy.decide import decide
from supervisor.policy.ledger import Ledger
from supervisor.policy.model import Policy, Rung, Treatment
from supervisor.records import Decision, Finding, Outcome, Verdict

LADDER = ("clip_norm", "lower_lr", "rollback")


def rung(*remedies: str, budget: int = 1) -> Rung:
    return Rung(tuple(Treatment(remedy) for remedy in remedies), budget)


def policy(pathology: str = "dead_units", *ladder: Rung, **changes: Any) -> Policy:
    return Policy("test", respond={pathology: ladder or tuple(rung(name) for name in LADDER)}, **changes)


def finding(pathology: str = "dead_units", tick: int = 10, **evidence: Any) -> Finding:
    facts = {"value": 0.9, "limit": 0.5, **evidence}
    return Finding(pathology, tick, tick, ("fc1",), 0.9, "large learning rate", facts)


class Run:
    """A ledger and what happens to it, without a training."""

    def __init__(self, rules: Policy) -> None:
        self.policy, self.ledger = rules, Ledger()

    def see(self, *findings: Finding) -> tuple[Decision, ...]:
        """Note this tick's findings and decide."""
        self.ledger.note_findings(findings)
        return decide(self.policy, findings, self.ledger)

    def do(self, decisions: tuple[Decision, ...], status: str = "applied") -> None:
        self.ledger.note_decisions(decisions)
        outcomes = [Outcome(d.id, d.remedy, status, d.tick, d.step) for d in decisions]  # type: ignore[arg-type]
        self.ledger.note_outcomes(decisions, outcomes, (1.0, 0.1))

    def judge(self, pathology: str, status: str, tick: int) -> None:
        incident = self.ledger.incidents[pathology]
        ids = tuple(d.id for d in incident.probation.decisions) if incident.probation else ()
        verdict = Verdict(ids, pathology, status, tick, tick, "")  # type: ignore[arg-type]
        self.ledger.note_verdict(verdict, self.policy.limits.cooldown)

    def story(self, pathology: str, ticks: range, verdict: str = "persisted", status: str = "applied") -> list[str]:
        """Let the finding return at each of `ticks`; every rung gets `verdict` before the next. Return the rungs."""
        said = []
        for tick in ticks:
            if (incident := self.ledger.incidents.get(pathology)) and incident.probation:
                self.judge(pathology, verdict, tick - ticks.step // 2)
            if decisions := self.see(finding(pathology, tick)):
                said.append(" + ".join(d.remedy for d in decisions))
                self.do(decisions, status)
        return said
