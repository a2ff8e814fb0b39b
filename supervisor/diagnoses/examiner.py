"""Runs the detectors over a training tick by tick; the same engine live, in replay and in tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from supervisor.diagnoses.base import Detector
from supervisor.diagnoses.past import Past
from supervisor.records import PATHOLOGIES, UPSETTING, Finding, Snapshot
from supervisor.registry import DETECTORS


def build_detectors(detect: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Detector]:
    """Return every registered detector with the thresholds of a policy; None switches one off."""
    names = sorted(DETECTORS.names(), key=lambda name: PATHOLOGIES.index(name) if name in PATHOLOGIES else 99)
    given = {name: detect.get(name, {}) for name in names}
    return {name: DETECTORS[name](**params) for name, params in given.items() if params is not None}


class Examiner:
    """Detectors and the past they look back on."""

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        admit: Callable[[Finding], Finding | None] = lambda finding: finding,
    ) -> None:
        """Examine with `detectors`; `admit` takes out of a finding what was declared normal, and may leave nothing."""
        self.detectors, self.admit = detectors, admit
        self.past = Past()

    def examine(self, now: Snapshot) -> list[Finding]:
        """Return this tick's findings, the most urgent first, and take the tick into the past."""
        self.past.enter(now)
        findings = []
        for detector in self.detectors.values():
            found = detector.inspect(now, self.past)
            if found is not None and (admitted := self.admit(found)) is not None:
                findings.append(admitted)
        self.past.append(now, ill=bool(findings) and any(finding.pathology in UPSETTING for finding in findings))
        return findings
