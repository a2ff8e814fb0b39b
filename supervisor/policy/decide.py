"""Findings and ledger in, decisions out: a pure function of its arguments.

One rung a tick. The most urgent finding is answered first. A rung is passed over when it is forbidden, when it does
not answer this finding, when its budget for it is spent, or when it failed on it before. While a rung is on
probation its finding is left alone. Whatever else is decided, `guard` keeps a non-finite step from being taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from supervisor.policy.ledger import LOST_TRIALS, Incident, Ledger
from supervisor.policy.model import Policy, Rung, Treatment, Turn
from supervisor.records import (
    BAD_DATA,
    PATHOLOGIES,
    RUINED_STATE,
    UPSETTING,
    WITHIN_THE_TICK,
    Decision,
    Finding,
)

_SKIP: Final = Rung((Treatment("skip_step"),))
_URGENT: Final = "non_finite"
_LAST: Final = frozenset({"stop", "advise"})

Choice = tuple[int, Rung, str]
"""Which rung, the rung itself, and why it is taken."""


def decide(policy: Policy, findings: Sequence[Finding], ledger: Ledger) -> tuple[Decision, ...]:
    """Return the decisions of one rung, or none. `ledger` already knows the findings."""
    for finding in sorted(findings, key=lambda f: (_urgency(f.pathology), -f.severity)):
        chosen = next(_choices(policy, finding, ledger), None)
        if chosen is not None:
            return _decisions(policy, finding, *chosen, ledger)
    return ()


def contenders(policy: Policy, finding: Finding, ledger: Ledger) -> list[tuple[Decision, ...]]:
    """Return the decisions of every rung that `finding` might now be answered with, up to stop and advice.

    Rungs that name its likeliest cause come first, because a trial may not be able to pay for all of them.
    """
    chosen = itertools.takewhile(lambda choice: not choice[1].remedies <= _LAST, _choices(policy, finding, ledger))
    apt = sorted(chosen, key=lambda choice: finding.cause not in choice[1].when.cause)
    return [_decisions(policy, finding, *choice, ledger) for choice in apt]


def guard(policy: Policy, findings: Sequence[Finding], ledger: Ledger) -> tuple[Decision, ...]:
    """Return the skip of a non-finite step that is about to be taken, where the ladder allows skips."""
    for finding in findings:
        ladder = policy.respond.get(finding.pathology, ())
        if finding.pathology == _URGENT and _allows_skip(policy, ladder):
            why = "the standing guard: a non-finite step is never taken"
            return _decisions(policy, finding, len(ladder), _SKIP, why, ledger)
    return ()


def _urgency(pathology: str) -> int:
    return PATHOLOGIES.index(pathology) if pathology in PATHOLOGIES else len(PATHOLOGIES)


def _choices(policy: Policy, finding: Finding, ledger: Ledger) -> Iterator[Choice]:
    """Yield the rungs that may answer `finding` now, in the order in which they are taken."""
    ladder = policy.respond.get(finding.pathology, ())
    if not ladder:
        return
    skips = finding.pathology == _URGENT and _allows_skip(policy, ladder)
    too_many = skips and ledger.skips_in_a_row >= policy.limits.consecutive_skips
    if too_many and "stop" not in policy.forbid:
        reason = f"{ledger.skips_in_a_row} steps in a row were skipped, the limit is {policy.limits.consecutive_skips}"
        yield len(ladder), Rung((Treatment("stop"),)), reason
        return
    waiting = _others_first(finding, ledger) or (
        finding.pathology not in UPSETTING and finding.tick < ledger.quiet_until
    )
    if not waiting:
        yield from _rungs(policy, ladder, finding, ledger)


def _others_first(finding: Finding, ledger: Ledger) -> bool:
    """Return whether a rung for this illness, or a more urgent one, is on probation: one cause at a time."""
    rank = _urgency(finding.pathology)
    on_probation = [name for name, incident in ledger.incidents.items() if incident.probation is not None]
    return any(_urgency(name) <= rank for name in on_probation)


def _allows_skip(policy: Policy, ladder: Sequence[Rung]) -> bool:
    named = {treatment.remedy for rung in ladder for treatment in rung.treatments}
    return "skip_step" in named - policy.forbid


def _rungs(policy: Policy, ladder: Sequence[Rung], finding: Finding, ledger: Ledger) -> Iterator[Choice]:
    """Yield the rungs of `ladder` that are left for `finding`; after the last one, advice."""
    incident, turns = ledger.incidents[finding.pathology], policy.turns(finding)
    worked = ledger.worked.get(finding.pathology)
    start = next((place for place, turn in enumerate(turns) if turn.rung == worked), 0)
    bad_data = finding.evidence.get("origin") in BAD_DATA
    start = start if ladder[turns[start].rung].when.admits(finding) and not bad_data else 0
    for place, index in enumerate(turn.rung for turn in turns):
        if place < start or not _left(policy, ladder[index], index, finding, ledger):
            continue
        if ladder[index].remedies - WITHIN_THE_TICK and finding.tick < incident.wait_until:
            return  # what might help was tried a moment ago, and did not
        yield index, ladder[index], _why(ladder, turns[: place + 1], incident, ledger, finding)
    if not (incident.advised or "advise" in policy.forbid):
        yield len(ladder), Rung((Treatment("advise"),)), "every rung of the ladder was tried, or is not allowed"


def _left(policy: Policy, rung: Rung, index: int, finding: Finding, ledger: Ledger) -> bool:
    """Return whether a rung is allowed, answers this finding, and is not used up."""
    incident, names, origin = ledger.incidents[finding.pathology], rung.remedies, finding.evidence.get("origin")
    if names & policy.forbid or not rung.when.admits(finding):
        return False
    if finding.pathology == _URGENT and origin in BAD_DATA and names - _LAST:
        ladder = policy.respond[finding.pathology]
        if _allows_skip(policy, ladder):
            return names == {"skip_step"}  # as often as it comes: the data is to blame, not the state
    if index in incident.failed or incident.used[index] >= rung.budget or incident.lost[index] >= LOST_TRIALS:
        return False
    if names == {"advise"}:
        return not incident.advised
    if names == {"skip_step"} and origin in RUINED_STATE:
        return False  # the next step would start from the same ruined state
    return ledger.interventions < policy.limits.interventions or names == {"stop"}


def _why(ladder: Sequence[Rung], turns: Sequence[Turn], incident: Incident, ledger: Ledger, finding: Finding) -> str:
    """Return why the last of `turns` is taken, after the others."""
    index, told = turns[-1].rung, turns[-1].told
    place = f"rung {index + 1} of {len(ladder)}{f'; learned order: {told}' if told else ''}"
    if ledger.worked.get(finding.pathology) == index and not incident.used:
        return f"{place}, which helped before in this run"
    if incident.used[index]:
        return f"{place}, again: {incident.used[index]} of {ladder[index].budget} used"
    before = [turn.rung for turn in turns[:-1]]
    tried = [str(ladder[i]) for i in before if i in incident.used or i in incident.failed]
    return f"{place}, after {', '.join(tried)} did not end it" if tried else place


def _decisions(
    policy: Policy, finding: Finding, index: int, rung: Rung, why: str, ledger: Ledger,
) -> tuple[Decision, ...]:  # fmt: skip
    reason = f"{_sentence(finding)}: {rung} ({why})"
    return tuple(
        Decision(
            id=f"d{ledger.decisions + n}",
            remedy=treatment.remedy,
            params=_filled(treatment, policy),
            finding=finding,
            rung=index,
            reason=reason,
            tick=finding.tick,
            step=finding.step,
        )
        for n, treatment in enumerate(rung.treatments, start=1)
    )


def _filled(treatment: Treatment, policy: Policy) -> dict[str, Any]:
    params = dict(treatment.params)
    if treatment.remedy in ("clip_norm", "clip_value") and params.get("hold") is None:
        params["hold"] = policy.verify.probation
    return params


def _sentence(finding: Finding) -> str:
    evidence = finding.evidence
    figures = f" {evidence['value']:.3g}, limit {evidence['limit']:.3g}" if _numeric(evidence) else ""
    where = f" in {', '.join(finding.where[:4])}" if finding.where else ""
    return f"{finding.pathology}{figures}{where}; suspected cause: {finding.cause}"


def _numeric(evidence: Any) -> bool:  # noqa: ANN401 - a mapping of anything
    return all(isinstance(evidence.get(key), (int, float)) for key in ("value", "limit"))
