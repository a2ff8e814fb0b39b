"""The tuned policy as a file: a few lines that extend the policy they came from, and say where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from supervisor.policy import Policy
from supervisor.policy.shipped import names
from supervisor.tuning.objective import Score


@dataclass(frozen=True)
class Provenance:
    """What a set of thresholds was fitted to, and how."""

    detector: str
    healthy: int  # runs
    faulty: int  # runs
    ticks: int  # of all runs
    trials: int
    seed: int


def policy_text(policy: Policy, params: Mapping[str, Any], provenance: Provenance, before: Score, after: Score) -> str:
    """Return a policy file with the tuned `detect:` section, its provenance in comments.

    It extends `policy` if that is a shipped one. Any other is written out in full: a name does not say
    where its file lies, and a tuned policy must load from anywhere.
    """
    name = f"{policy.name.removesuffix('-tuned')}-tuned"
    if policy.name in names() and Policy.load(policy.name) == policy:
        content = {"name": name, "extends": policy.name, "detect": {provenance.detector: dict(params)}}
        body = yaml.safe_dump(content, sort_keys=False)
    else:
        own = policy.detect.get(provenance.detector) or {}
        detect = {**policy.detect, provenance.detector: {**own, **params}}
        body = replace(policy, name=name, detect=detect).to_yaml()
    comments = "\n".join(f"# {line}".rstrip() for line in _story(provenance, before, after))
    return f"{comments}\n{body}"


def _story(provenance: Provenance, before: Score, after: Score) -> list[str]:
    facts = provenance
    rows = (
        ("false alarms per 1000 healthy ticks", before.false_alarms_per_1000, after.false_alarms_per_1000),
        (f"faulty runs missed, of {facts.faulty}", before.missed, after.missed),
        ("latency, share of the run after onset", before.latency, after.latency),
        ("cost", before.cost, after.cost),
    )
    runs = f"runs: {facts.healthy} healthy, {facts.faulty} faulty, {facts.ticks} ticks"
    outcome = "" if after.cost < before.cost else " Nothing better than the policy's own was found."
    return [
        f"Thresholds of {facts.detector}, fitted to recorded runs.{outcome}",
        f"{runs}; trials: {facts.trials}; seed: {facts.seed}",
        "",
        f"{'':<38}{'before':>10}{'after':>10}",
        *(f"{what:<38}{old:>10.4g}{new:>10.4g}" for what, old, new in rows),
        "",
        "Measured on the very runs it was fitted to: replay runs that were not among them before you rely on it.",
    ]
