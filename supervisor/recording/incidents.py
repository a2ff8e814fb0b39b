"""The records of a run, ordered as a person thinks of them: an incident, what was tried, what became of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

PROOF: Final = re.compile(r"; trial (\w+): .*", re.DOTALL)
"""What the reason of a decision tells of the trial that it won; the trial itself tells it better."""

Fact = Mapping[str, Any]
"""A record in plain data, as in the journal and in `Report.to_dict()`."""


@dataclass(frozen=True)
class Attempt:
    """One rung that was applied, or was to be."""

    decisions: tuple[Fact, ...]
    outcomes: tuple[Fact, ...]
    verdict: Fact | None

    @property
    def tick(self) -> int:
        """When it was decided."""
        return int(self.decisions[0]["tick"])

    @property
    def rung(self) -> int:
        """Its place on the ladder, from 0."""
        return int(self.decisions[0]["rung"])

    @property
    def remedies(self) -> str:
        """The names of its remedies, joined by " + "."""
        return " + ".join(str(decision["remedy"]) for decision in self.decisions)

    @property
    def reason(self) -> str:
        """Why it was chosen, without the trial that it won; the remedies of one rung share their reason."""
        return " ".join(dict.fromkeys(PROOF.sub("", str(decision["reason"])) for decision in self.decisions))

    @property
    def trial(self) -> str:
        """The id of the trial that it won, or ""."""
        found = PROOF.search(str(self.decisions[0]["reason"]))
        return found.group(1) if found else ""

    @property
    def applied(self) -> bool:
        """Whether it was applied: all of its remedies, or none."""
        return bool(self.outcomes) and all(outcome["status"] == "applied" for outcome in self.outcomes)

    @property
    def status(self) -> str:
        """The verdict, or why there is none: refused, failed, advised, stopped, no verdict."""
        if self.verdict is not None:
            return str(self.verdict["status"])
        bad = [str(outcome["status"]) for outcome in self.outcomes if outcome["status"] != "applied"]
        if bad:  # the remedies of a rung are applied as one
            return "refused" if "refused" in bad else bad[0]
        return {"advise": "advised", "stop": "stopped"}.get(self.remedies, "no verdict")


@dataclass
class Incident:
    """One pathology, from its first finding to the verdict that resolved it."""

    pathology: str
    findings: list[Fact] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    trials: list[Fact] = field(default_factory=list)  # the ended ones
    closed: Fact | None = None  # the verdict that resolved it

    @property
    def tick(self) -> int:
        """When it was first seen."""
        return int(self.findings[0]["tick"])

    @property
    def status(self) -> str:
        """What the last attempt came to; "left alone" if trials had no winner, "only seen" if nothing was tried."""
        if self.closed is not None:
            return "resolved"
        groups = list(runs_of(self.attempts))
        if groups:
            return result_of(groups[-1]).status
        return "left alone" if self.trials else "only seen"


def attempts_of(story: Fact) -> list[Attempt]:
    """Return the rungs of a story in the order they were decided."""
    outcomes: dict[str, list[Fact]] = {}
    for outcome in story["outcomes"]:
        outcomes.setdefault(outcome["decision"], []).append(outcome)
    verdicts = {name: verdict for verdict in story["verdicts"] for name in verdict["decisions"]}

    def rung(decision: Fact) -> tuple[Any, ...]:
        return decision["tick"], decision["finding"]["pathology"], decision["rung"]

    attempts = []
    for _, group in groupby(story["decisions"], key=rung):
        decisions = tuple(group)
        ids = [decision["id"] for decision in decisions]
        results = tuple(outcome for name in ids for outcome in outcomes.get(name, []))
        verdict = next((verdicts[name] for name in ids if name in verdicts), None)
        attempts.append(Attempt(decisions, results, verdict))
    return attempts


def incidents_of(story: Fact) -> list[Incident]:
    """Return the incidents of a story in the order they were first seen."""
    incidents: list[Incident] = []
    current: dict[str, Incident] = {}
    known: dict[tuple[str, int], Incident] = {}  # by the ticks of their findings
    for kind, fact in _events(story):
        if kind == "verdict":
            incident = current.get(fact["pathology"])
            if incident is not None and fact["status"] == "resolved":
                incident.closed = fact
            continue
        if kind == "trial":
            if fact["pathology"] in current:  # always so in a whole journal: a finding opens the incident
                current[fact["pathology"]].trials.append(fact)
            continue
        finding = fact if kind == "finding" else fact.decisions[0]["finding"]
        name = (str(finding["pathology"]), int(finding["tick"]))
        # A limit that was left standing may fire after its incident is over: it still belongs to that incident.
        incident = known.get(name) or current.get(name[0])
        if incident is None or (incident.closed is not None and name not in known):
            incident = current[name[0]] = Incident(name[0])
            incidents.append(incident)
        if name not in known:
            known[name] = incident
            incident.findings.append(finding)
        if kind == "attempt":
            incident.attempts.append(fact)
    return incidents


def _events(story: Fact) -> list[tuple[str, Any]]:
    """Return what happened by tick; in one tick verdicts come first, a finding before what answers it."""
    order = {"verdict": 0, "finding": 1, "trial": 2, "attempt": 3}
    events: list[tuple[int, str, Any]] = [(int(finding["tick"]), "finding", finding) for finding in story["findings"]]
    events += [(int(verdict["tick"]), "verdict", verdict) for verdict in story["verdicts"]]
    events += [(int(trial["tick"]), "trial", trial) for trial in story["trials"]]
    events += [(attempt.tick, "attempt", attempt) for attempt in attempts_of(story)]
    return [(kind, fact) for _, kind, fact in sorted(events, key=lambda event: (event[0], order[event[1]]))]


def runs_of(attempts: Sequence[Attempt]) -> Iterable[list[Attempt]]:
    """Yield attempts; the firings of one standing rung, or of one reflex again and again, as one group."""
    group: list[Attempt] = []
    for attempt in attempts:
        same = bool(group) and (attempt.remedies, attempt.rung) == (group[0].remedies, group[0].rung)
        if same and attempt.status in (group[0].status, "no verdict"):
            group.append(attempt)
            continue
        if group:
            yield group
        group = [attempt]
    if group:
        yield group


def course_of(incident: Incident) -> Iterable[tuple[list[Fact], list[Attempt]]]:
    """Yield the trials held before each group of attempts, and the group; it is empty for what was tried at the last.

    On a device a decision is made ticks after what it answers, so a trial may bear a later tick than its winner.
    """
    left = list(incident.trials)
    for group in runs_of(incident.attempts):
        proofs = {attempt.trial for attempt in group}
        before = [trial for trial in left if int(trial["tick"]) <= group[0].tick or trial["id"] in proofs]
        left = [trial for trial in left if trial not in before]
        yield before, group
    if left:
        yield left, []


def result_of(group: Sequence[Attempt]) -> Attempt:
    """Return the attempt of a group that has its last verdict, else the last one."""
    return next((attempt for attempt in reversed(group) if attempt.verdict is not None), group[-1])
