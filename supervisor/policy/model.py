"""A policy as data: what is watched, what is answered, within which bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from supervisor.policy.context import Context, covers
from supervisor.records import Finding

_UNDECLARED: Final = Context()


@dataclass(frozen=True)
class Treatment:
    """One remedy with its parameters, as a rung names it."""

    remedy: str
    params: Mapping[str, Any] = field(default_factory=dict)


SUSPECTED: Final = 0.5  # of the weight of the first cause: another one as likely as that is meant as well


@dataclass(frozen=True)
class When:
    """Which findings a rung answers. Left out, any."""

    cause: tuple[str, ...] = ()  # one of these is among the likeliest causes
    where: str = ""  # name or shell pattern: one of the finding's layers lies there
    after_step: int = 0
    until_step: int | None = None
    min_severity: float = 0.0

    def admits(self, finding: Finding) -> bool:
        """Return whether a rung under these conditions answers `finding`."""
        if finding.step < self.after_step or (self.until_step is not None and finding.step > self.until_step):
            return False
        if self.where and not any(covers(self.where, name) for name in finding.where):
            return False
        if self.cause and not set(self.cause) & _suspected(finding):
            return False
        return finding.severity >= self.min_severity


def _suspected(finding: Finding) -> set[str]:
    likely = [cause.name for cause in finding.causes if cause.weight >= SUSPECTED * finding.causes[0].weight]
    return {finding.cause, *likely}


_ALWAYS: Final = When()

Order = Literal["policy", "learned"]
"""Of the rungs of a ladder: as the policy has them, or as outcomes of earlier runs suggest."""


@dataclass(frozen=True)
class Rung:
    """One or several treatments, applied, judged and undone as one."""

    treatments: tuple[Treatment, ...]
    budget: int = 1  # how often it may be applied to one finding
    when: When = _ALWAYS

    @property
    def remedies(self) -> frozenset[str]:
        """The names of its remedies."""
        return frozenset(treatment.remedy for treatment in self.treatments)

    def __str__(self) -> str:
        """Return the names of the remedies, joined by " + "."""
        return " + ".join(treatment.remedy for treatment in self.treatments)


@dataclass(frozen=True)
class Turn:
    """Which rung of a ladder has its turn."""

    rung: int  # its place on the ladder as written, 0 the first
    told: str = ""  # what earlier runs tell of it


@dataclass(frozen=True)
class Observe:
    """What is measured, and how often."""

    activations_every: int = 10  # ticks


@dataclass(frozen=True)
class Verify:
    """How a remedy is judged."""

    probation: int = 50  # ticks between applying a rung and its verdict
    trials: bool = True  # whether a rung that changes model or course must first beat doing nothing
    trial_steps: int | Literal["auto"] = "auto"  # of one branch
    trial_budget: float = 0.15  # passes of all trials, as a share of those of the run


@dataclass(frozen=True)
class Limits:
    """Bounds on what the supervisor may do in one run."""

    interventions: int = 20  # applied rungs in the whole run, reflexes not counted
    cooldown: int = 25  # ticks after a verdict before the next rung; a non-finite tick does not wait
    consecutive_skips: int = 20  # skipped steps in a row before the training is stopped


@dataclass(frozen=True)
class Policy:
    """A resolved policy: everything inherited is filled in."""

    name: str
    description: str = ""
    observe: Observe = Observe()
    detect: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)  # None: switched off
    respond: Mapping[str, tuple[Rung, ...]] = field(default_factory=dict)
    verify: Verify = Verify()
    limits: Limits = Limits()
    forbid: frozenset[str] = frozenset()
    context: Context = _UNDECLARED
    order: Order = "policy"
    learned: Mapping[str, Mapping[str, tuple[Turn, ...]]] = field(default_factory=dict)
    """By pathology and suspected cause, the turns of rungs where earlier runs tell of them; never part of a file."""

    @staticmethod
    def load(name_or_path: str | Path) -> Policy:
        """Load a shipped policy by name, or a YAML file. Raises PolicyError, all problems at once."""
        from supervisor.policy.loader import load  # noqa: PLC0415 - pydantic and yaml only when needed

        return load(name_or_path)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Policy:
        """Build a policy from the mapping a YAML file would hold."""
        from supervisor.policy.loader import from_dict  # noqa: PLC0415

        return from_dict(content)

    def within(self, context: str | Mapping[str, Any]) -> Policy:
        """Return the policy in a declared context: a kind, or a mapping. What it states wins, key by key.

        Raises UsageError with every problem of `context`.
        """
        from supervisor.policy.loader import in_context  # noqa: PLC0415

        return in_context(self, context)

    def with_(self, **changes: Any) -> Policy:  # noqa: ANN401 - what a file could hold
        """Return a policy that extends this one: `with_(verify={"trials": False}, forbid=["insert_norm"])`.

        Raises PolicyError with every problem of `changes`, which are checked as a file is.
        """
        from supervisor.policy.loader import changed  # noqa: PLC0415

        return changed(self, changes)

    @property
    def hash(self) -> str:
        """What tells this policy from every other: the first 16 hexadecimal digits of its YAML's SHA-256."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """Return the resolved policy as YAML that loads to an equal policy."""
        from supervisor.policy.loader import to_yaml  # noqa: PLC0415

        return to_yaml(self)

    def turns(self, finding: Finding) -> tuple[Turn, ...]:
        """Return the rungs of a finding's ladder in the order in which they are taken."""
        ladder = self.respond.get(finding.pathology, ())
        learned = self.learned.get(finding.pathology, {}).get(finding.cause)
        return learned or tuple(map(Turn, range(len(ladder))))

    @property
    def detecting(self) -> Mapping[str, Mapping[str, Any] | None]:
        """The thresholds to detect with: `detect`, and what the context masks or loosens. None: switched off."""
        return self.context.loosened(self.detect)

    @property
    def remedies(self) -> frozenset[str]:
        """All remedies its ladders may reach."""
        named = {t.remedy for ladder in self.respond.values() for rung in ladder for t in rung.treatments}
        return frozenset(named - self.forbid)
