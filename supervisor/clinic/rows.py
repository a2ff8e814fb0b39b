"""One line of the clinic's protocol: a case, a seed, and what the supervisor made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.clinic.case import Case, Half, regained
from supervisor.clinic.runs import Kind, Ran, Seen

REPAIRED: Final = 0.95
"""A training is repaired if it regains this share of its healthy twin's lead over chance."""

HARMLESS: Final = 0.8
"""A fault that leaves this share of the lead is none."""

SECONDS: Final = 4.0
"""What a run may take on one core."""


@dataclass(frozen=True)
class Row:
    """A case and a seed. Everything else is worked out from its runs."""

    case: Case
    half: Half
    seed: int
    runs: Mapping[Kind, Ran] = field(default_factory=dict)

    @property
    def supervised(self) -> Ran:
        """The supervised run; an empty one where there is none."""
        return self.runs.get("supervised", Ran())

    @property
    def error(self) -> str:
        """Why figures are missing, or nothing."""
        return "; ".join(ran.error for ran in self.runs.values() if ran.error)

    @property
    def first(self) -> Seen | None:
        """The first finding with an acceptable name at the onset or after it."""
        seen = (f for f in self.supervised.findings if f.tick >= self.case.onset and f.pathology in self.case.expect)
        return min(seen, key=lambda finding: finding.tick, default=None)

    @property
    def latency_ticks(self) -> int | None:
        """Ticks from the onset to the first acceptable finding."""
        return None if self.first is None else self.first.tick - self.case.onset

    @property
    def latency(self) -> float | None:
        """The same as a share of the steps asked for; a run that was stopped early is not a shorter one."""
        ticks = self.latency_ticks
        return None if ticks is None else ticks / max(1, self.supervised.planned)

    @property
    def cause_right(self) -> bool:
        """Whether the first acceptable finding names an acceptable cause."""
        return self.first is not None and self.first.cause in self.case.causes

    @property
    def false_alarms(self) -> tuple[Seen, ...]:
        """Findings before the onset; of a control, all."""
        return tuple(f for f in self.supervised.findings if self.case.healthy or f.tick < self.case.onset)

    def regained(self, kind: Kind) -> float | None:
        """Return the share of the twin's lead over chance that a run reached; None where that is not known."""
        ran, twin = self.runs.get(kind), self.runs.get("twin")
        if ran is None or twin is None or twin.error or (ran.error and kind == "supervised"):
            return None
        return regained(ran.score, twin.chance, twin.score)

    def repaired(self, kind: Kind) -> bool:
        """Return whether a run regained enough."""
        share = self.regained(kind)
        return share is not None and share >= REPAIRED

    @property
    def passes(self) -> float | None:
        """Ticks and passes of trials for each step asked for: what the treatment cost."""
        return self.supervised.passes

    @property
    def slowdown(self) -> float | None:
        """Seconds a tick supervised over seconds a tick bare, in one process, one after the other."""
        bare, ran = self.runs.get("bare"), self.supervised
        if bare is None or not (bare.seconds and ran.ticks and bare.ticks):
            return None
        return (ran.seconds / ran.ticks) / (bare.seconds / bare.ticks)

    @property
    def flaws(self) -> list[str]:
        """Return what is wrong with the case itself: no harm done, a twin that learns nothing, too slow."""
        found = []
        bare, twin = self.runs.get("bare"), self.runs.get("twin")
        if twin is not None and not twin.error and not twin.score > twin.chance:
            found.append(f"its twin is no better than chance ({twin.score:.3g}, chance {twin.chance:.3g})")
        if (share := self.regained("bare")) is not None and share >= HARMLESS:
            found.append(f"its fault does no harm: the bare run regains {share:.2f}")
        slowest = max((ran.seconds for ran in (bare, twin) if ran is not None), default=0.0)
        if slowest > SECONDS:
            found.append(f"it takes {slowest:.1f} s, more than {SECONDS:.0f}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON types; what is not known is None."""
        case = self.case
        return {
            "case": case.name,
            "half": self.half,
            "family": case.family,
            "pathology": case.pathology,
            "expect": sorted(case.expect),
            "causes": sorted(case.causes),
            "trap": case.trap,
            "onset": case.onset,
            "seed": self.seed,
            "detected": self.first is not None,
            "latency_ticks": self.latency_ticks,
            "latency": self.latency,
            "cause_right": self.cause_right,
            "findings": [vars(finding) for finding in self.supervised.findings],
            "false_alarms": len(self.false_alarms),
            "interventions": list(self.supervised.interventions),
            "health": self.supervised.health,
            "repaired": self.repaired("supervised"),
            "passes": self.passes,
            "trial_passes": self.supervised.trial_passes,
            "slowdown": self.slowdown,
            **self._by_run(),
            "flaws": self.flaws,
            "error": self.error,
        }

    def _by_run(self) -> dict[str, Any]:
        return {
            "scores": {kind: _number(ran.score) for kind, ran in self.runs.items()},
            "chance": _number(next((ran.chance for ran in self.runs.values() if not ran.error), math.nan)),
            "regained": {kind: _number(self.regained(kind)) for kind in self.runs if kind != "twin"},
            "cost": {kind: ran.passes for kind, ran in self.runs.items() if kind != "twin"},
            "treatments": {kind: list(ran.interventions) for kind, ran in self.runs.items() if ran.interventions},
            "seconds": {kind: round(ran.seconds, 3) for kind, ran in self.runs.items()},
        }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
