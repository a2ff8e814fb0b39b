"""The verdict on a rung, from what was seen during its probation. Pure: records and numbers in, a Verdict out.

Resolved: the finding was not seen during the second half of the probation, and the loss is not above what it was
before by more than its noise. Persisted: it was seen, or an upset training (explosion, NaN) has not come back to the
level that was usual before its illness. Worsened: any other remedy left the loss higher, or made the training
non-finite; then the loop takes the rung back.
"""

from __future__ import annotations

import math
from typing import Final

from supervisor.diagnoses.past import Past
from supervisor.policy.ledger import Incident, Probation
from supervisor.records import BAD_DATA, CLIPS, UPSETTING, Finding, Snapshot, Verdict

SETTLED: Final = 5  # ticks without the finding that prove a reflex
STUBBORN: Final = 4  # sightings of an upset training that show that the remedy does not hold it
QUIET: Final = 100  # ticks after which a finding that nobody treated counts as over


def judge(incident: Incident, now: Snapshot, past: Past, probation: int, *, over: bool = False) -> Verdict | None:
    """Return the verdict on the rung on probation, or None while it is too early.

    `probation` is in ticks; `over` says that the run has ended.
    """
    trial = incident.probation
    if trial is None:
        return None
    age = now.tick - trial.began
    length = SETTLED if trial.reflex and trial.decisions[0].remedy == "skip_step" else probation
    if age == 0 and not over:
        return None
    if (early := _early(incident, trial, now, past)) is not None:
        return early
    if age < length:
        return _verdict(trial, now, "inconclusive", f"the run ended {age} ticks into the probation") if over else None
    return _final(incident, trial, now, past, length)


def _early(incident: Incident, trial: Probation, now: Snapshot, past: Past) -> Verdict | None:
    """Return a verdict that need not wait: a skip that did not end it, or a cure that made things non-finite."""
    pathology = incident.finding.pathology
    seen_again = incident.last_seen > trial.began and incident.last_seen == now.tick
    if pathology == "non_finite" and seen_again:
        return _verdict(trial, now, "persisted", f"non-finite again {now.tick - trial.began} ticks later")
    if pathology in UPSETTING and seen_again and trial.sightings >= STUBBORN and _worse_than_untrained(now, past):
        return _verdict(trial, now, "persisted", f"seen on {trial.sightings} of {now.tick - trial.began} ticks since")
    blameless = now.finite or now.origin in BAD_DATA  # a bad batch says nothing about the cure
    if pathology != "non_finite" and not blameless and not trial.reflex:
        return _verdict(trial, now, "worsened", "loss or gradients became non-finite during the probation")
    return None


def _worse_than_untrained(now: Snapshot, past: Past) -> bool:
    """Return whether the loss is far above where it began. Milder excursions mostly heal by themselves: wait."""
    return not now.loss <= past.initial_loss + abs(past.initial_loss)


def _final(incident: Incident, trial: Probation, now: Snapshot, past: Past, length: int) -> Verdict:
    level = past.level(max(4, length // 4))
    limit = trial.loss_before + max(3.0 * trial.loss_noise, 0.2 * abs(trial.loss_before))
    figures = {"loss": level, "loss_before": trial.loss_before, "loss_limit": limit, "last_seen": incident.last_seen}
    skip = trial.remedies == {"skip_step"}  # leaves the course as it was: what else ails the loss is not its doing
    if not skip and math.isfinite(limit) and not level <= limit:
        upset = incident.finding.pathology in UPSETTING  # its state before was ill: nothing to go back to
        reason = f"loss {level:.4g} has not come back to {trial.loss_before:.4g}, what was usual before"
        return _verdict(trial, now, "persisted" if upset else "worsened", reason, figures)
    if trial.remedies <= CLIPS and level <= limit:
        return _verdict(trial, now, "resolved", f"seen on {trial.sightings} ticks, and the loss has not risen", figures)
    if incident.last_seen > trial.began + length // 2:
        return _verdict(trial, now, "persisted", "the finding was still seen late in the probation", figures)
    return _verdict(trial, now, "resolved", f"not seen for {now.tick - incident.last_seen} ticks", figures)


def not_back(verdict: Verdict) -> bool:
    """Return whether a verdict was given because the loss has not come back to what was usual."""
    return bool(verdict.figures) and not verdict.figures["loss"] <= verdict.figures["loss_limit"]


def overtaken(incident: Incident, now: Snapshot) -> Verdict:
    """Return the verdict on a rung whose probation a rollback has ended: the state it was judged in is no more."""
    assert incident.probation is not None
    return _verdict(incident.probation, now, "inconclusive", "a rollback for something else ended its probation")


def close_quiet(incident: Incident, now: Snapshot) -> Verdict | None:
    """Return a verdict for an untreated finding that has not been seen for QUIET ticks."""
    if incident.probation is not None or now.tick - incident.last_seen < QUIET:
        return None
    reason = f"not seen for {QUIET} ticks"
    return Verdict((), incident.finding.pathology, "resolved", now.tick, now.step, reason)


def _verdict(
    trial: Probation, now: Snapshot, status: str, reason: str, figures: dict[str, float] | None = None,
) -> Verdict:  # fmt: skip
    finding: Finding = trial.decisions[0].finding
    ids = tuple(decision.id for decision in trial.decisions)
    return Verdict(ids, finding.pathology, status, now.tick, now.step, reason, figures or {})  # type: ignore[arg-type]
