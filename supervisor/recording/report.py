"""What `supervise()` returns: the run in plain data, and its story in a few lines for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from supervisor.records import Decision, Finding, Outcome, Verdict, plain

Status = Literal["completed", "stopped", "interrupted", "failed"]
Health = Literal["healthy", "recovered", "unresolved"]


@dataclass(frozen=True)
class Report:
    """The outcome of one supervised training."""

    status: Status
    health: Health
    ticks: int
    steps: int
    final_loss: float
    best_loss: float
    stop_reason: str
    policy: str
    run_dir: Path
    run_id: str | None = None
    tracking_uri: str | None = None
    how_to_open: str = ""  # lines that tell a person where the mirror is and how to open it
    findings: list[Finding] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    model_changes: list[Mapping[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what else a reader should know
    evaluations: Sequence[Mapping[str, Any]] = field(default_factory=list)
    trials: list[Mapping[str, Any]] = field(default_factory=list)  # those that ended, as the journal holds them
    trial_passes: int = 0  # forward and backward passes that trials took, beside the ticks
    result: Any = None  # what train_fn returned, in the whole form

    @property
    def interventions(self) -> list[Decision]:
        """The decisions that changed the training: applied, more than advice, and a clip only where it fired."""
        changing = {outcome.decision for outcome in self.outcomes if outcome.intervened}
        return [decision for decision in self.decisions if decision.id in changing]

    def summary(self) -> str:
        """Return the story of the run as text."""
        from supervisor.recording.story import tell  # noqa: PLC0415 - the story reads the report

        return tell(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        facts = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name != "result"}
        facts["interventions"] = [decision.id for decision in self.interventions]
        return facts

    def to_json(self, path: str | Path) -> None:
        """Write the report as a JSON file."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
