"""What has happened so far, as far as decisions depend on it. On the tick clock: it never rolls back.

An incident is one illness from its first finding to the verdict that it is over. The ledger is fed with the
records alone, so that the same journal read again gives the same ledger and the same decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from supervisor.records import CLIPS, REFLEXES, Decision, Finding, Outcome, Snapshot, Verdict

LASTING: Final = 2  # sightings under a reflex that show that the fault was not in one batch alone
LOST_TRIALS: Final = 2  # after which a rung is not tried again on a finding
RELAPSE: Final = 1000  # ticks after a cure within which the same illness is the same incident


@dataclass
class Probation:
    """A rung that was applied and waits for its verdict."""

    decisions: tuple[Decision, ...]
    began: int  # tick
    loss_before: float  # the usual loss when it was applied
    loss_noise: float
    sightings: int = 0  # ticks since on which the finding was seen

    @property
    def remedies(self) -> frozenset[str]:
        """The names of its remedies."""
        return frozenset(decision.remedy for decision in self.decisions)

    @property
    def reflex(self) -> bool:
        """Whether it consists of reflexes only."""
        return self.remedies <= REFLEXES


@dataclass
class Incident:
    """One illness, from its first finding on."""

    finding: Finding  # the first
    last_seen: int  # tick
    used: Counter[int] = field(default_factory=Counter)  # rung: times applied
    failed: set[int] = field(default_factory=set)  # rungs that did not help, or could not be applied
    advised: bool = False
    probation: Probation | None = None
    lost: Counter[int] = field(default_factory=Counter)  # rung: trials in which doing nothing was as good
    wait_until: int = 0  # tick: nothing beat doing nothing, so the training is left alone until then


class Ledger:
    """Open incidents, budgets and clocks of one run."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}  # open ones, by pathology
        self.worked: dict[str, int] = {}  # pathology: the rung that resolved it last
        self._healed: dict[str, tuple[int, Incident]] = {}  # pathology: when a rung healed it, and the incident
        self.interventions = 0  # rungs applied, reflexes not counted
        self.quiet_until = 0  # tick; the cooldown
        self.skips_in_a_row = 0
        self.decisions = 0

    def note_tick(self, now: Snapshot) -> None:
        """Note a tick before its findings are judged."""
        if now.finite:
            self.skips_in_a_row = 0

    def note_findings(self, findings: Sequence[Finding]) -> list[Finding]:
        """Note this tick's findings; return those that open an incident."""
        opened = []
        for finding in findings:
            incident = self.incidents.get(finding.pathology)
            if incident is None:
                self.incidents[finding.pathology] = self._opened(finding)
                opened.append(finding)
            else:
                incident.last_seen = finding.tick
                if incident.probation is not None:
                    incident.probation.sightings += 1
        return opened

    def _opened(self, finding: Finding) -> Incident:
        """Return a new incident. A relapse goes on where the healed one stood: what it used up stays used up."""
        incident = Incident(finding, finding.tick)
        healed, before = self._healed.get(finding.pathology, (0, None))
        if before is not None and finding.tick - healed <= RELAPSE:
            incident.used, incident.failed, incident.lost = before.used, before.failed, before.lost
        return incident

    def note_decisions(self, decisions: Sequence[Decision]) -> None:
        """Note the decisions of one rung before they are carried out."""
        self.decisions += len(decisions)
        incident = self.incidents[decisions[0].finding.pathology]
        if not any(decision.intervention for decision in decisions):
            incident.advised = True
            return
        incident.used[decisions[0].rung] += 1

    def note_outcomes(
        self, decisions: Sequence[Decision], outcomes: Sequence[Outcome], loss: tuple[float, float],
    ) -> None:  # fmt: skip
        """Note what became of them; `loss` is (usual, noise) at the time."""
        incident = self.incidents[decisions[0].finding.pathology]
        if any(outcome.status != "applied" for outcome in outcomes):
            incident.failed.add(decisions[0].rung)
            return
        if not decisions[0].intervention:
            return
        if any(decision.remedy == "skip_step" for decision in decisions):
            self.skips_in_a_row += 1
        if all(decision.remedy == "stop" for decision in decisions):
            return  # there is nothing to wait for
        if incident.probation is not None:
            return  # a skip beside a rung that waits for its verdict already
        incident.probation = Probation(tuple(decisions), decisions[0].tick, *loss)
        if not incident.probation.reflex:
            self.interventions += 1

    def note_trial(
        self, pathology: str, tick: int, won: int | None, lost: Iterable[int], refused: Iterable[int], wait: int,
    ) -> None:  # fmt: skip
        """Note by rung how a trial ended. Where none won, the training is left alone for `wait` ticks."""
        incident = self.incidents[pathology]
        incident.lost.update(lost)
        incident.failed.update(refused)
        if won is None:
            incident.wait_until = tick + wait

    def note_verdict(self, verdict: Verdict, cooldown: int) -> None:
        """Note a verdict: a resolved incident is closed, any other climbs the ladder."""
        incident = self.incidents[verdict.pathology]
        probation = incident.probation
        incident.probation = None
        if probation is None:
            del self.incidents[verdict.pathology]
            return
        rung = probation.decisions[0].rung
        if not probation.reflex:
            self.quiet_until = verdict.tick + cooldown
        if verdict.status == "resolved":
            self.worked[verdict.pathology] = rung
            if not probation.reflex or probation.sightings >= LASTING:  # more than one bad batch
                self._healed[verdict.pathology] = (verdict.tick, incident)
            del self.incidents[verdict.pathology]
        elif verdict.status == "worsened" or probation.remedies <= CLIPS:
            incident.failed.add(rung)  # a clip that ran its course has shown what it can do
