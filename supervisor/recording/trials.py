"""Trials as a person reads them: what was tried against doing nothing, how each arm ended, and who won."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from supervisor.recording.incidents import Fact
from supervisor.recording.wording import counted, listing, number
from supervisor.verification.weigh import Branch

FIGURES: Final = {
    "vanishing_gradients": "gradient over the depth, decades",
    "dead_units": "share of units alive",
    "saturation": "slope left",
}
"""What an arm's `figure` measures, by the pathology that is treated; elsewhere there is none."""

LONG: Final = 90  # characters of a refusal in the terminal; the page has it whole


@dataclass(frozen=True)
class Arm:
    """One arm of a trial; what the weighing saw of it is `branch`."""

    branch: Branch
    label: str  # its name, with the rung where two arms share a name
    result: str  # control, carried out, won, lost, undecided, refused
    reason: str

    @property
    def ended(self) -> str:
        """Where it ended: the score of `evaluate`, else the usual loss of its last steps."""
        level = self.branch.level
        return number(level) if math.isfinite(level) else "not finite"

    @property
    def scored(self) -> bool:
        """Whether it was judged by the score of `evaluate`."""
        return math.isfinite(self.branch.score)


@dataclass(frozen=True)
class Told:
    """The arms of one trial, sorted for a reader."""

    control: Arm
    winner: Arm | None
    others: tuple[Arm, ...]  # the best first
    refused: tuple[Arm, ...]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """All of them: the winner, doing nothing, the others, what was refused."""
        first = () if self.winner is None else (self.winner,)
        return (*first, self.control, *self.others, *self.refused)


def told_of(trial: Fact) -> Told:
    """Return the arms of a trial, given as in the journal's "ended" lines."""
    names = Counter(str(arm["name"]) for arm in trial["arms"])
    arms = [_arm(arm, shared=names[str(arm["name"])] > 1, winner=trial["winner"]) for arm in trial["arms"]]
    tried = sorted((arm for arm in arms if arm.result in ("won", "lost", "undecided")), key=lambda a: a.branch.level)
    return Told(
        control=next(arm for arm in arms if arm.result == "control"),
        winner=next((arm for arm in arms if arm.result == "carried out"), None),
        others=tuple(tried),
        refused=tuple(arm for arm in arms if arm.result == "refused"),
    )


def _arm(facts: Fact, *, shared: bool, winner: int | None) -> Arm:
    rung, name = int(facts["rung"]), str(facts["name"])
    score, figure, pace = (float(facts[key]) for key in ("score", "figure", "pace"))  # NaN is a string in JSON
    branch = Branch(name, rung, tuple(map(float, facts["losses"])), score, figure, pace)
    chosen = facts["result"] == "won" and rung == winner
    label = f"{name} (rung {rung + 1})" if shared else name
    return Arm(branch, label, "carried out" if chosen else str(facts["result"]), str(facts["reason"]))


def headline_of(trial: Fact) -> str:
    """Return in one line what was tried, and who won."""
    told, steps = told_of(trial), int(trial["steps"])
    tried = len(told.others) + (told.winner is not None)
    if not tried:
        return "no rung could be applied: left alone"
    asked = f"tried {counted(tried, 'rung')} for {counted(steps, 'step')}"
    if told.winner is not None:
        return f"{asked}: {told.winner.label} won, {told.winner.reason}"
    return f"{asked}: nothing beat doing nothing ({measure(told)} {told.control.ended}), left alone"


def measure(told: Told) -> str:
    """Return by what the arms of a trial were judged."""
    return "score" if any(arm.scored for arm in told.arms) else "loss"


def rest_of(trial: Fact) -> list[str]:
    """Return what the headline left out, a line each: how the others ended, and what was refused."""
    told = told_of(trial)
    others = listing((f"{arm.label} {arm.ended}" for arm in told.others), most=4)
    word = "the others" if told.winner is not None else "they ended at"
    refused = "; ".join(f"{names}: {_short(why)}" for why, names in _by_reason(told.refused))
    return [f"{name}: {text}" for name, text in ((word, others), ("refused", refused)) if text]


def _by_reason(arms: Sequence[Arm]) -> Iterable[tuple[str, str]]:
    """Yield each reason with the arms that were refused for it."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        found.setdefault(arm.reason, []).append(arm.label)
    return ((reason, listing(labels)) for reason, labels in found.items())


def _short(text: str) -> str:
    return text if len(text) <= LONG else text[:LONG].rpartition(" ")[0] + " …"


def cost(story: Fact) -> str:
    """Return what the trials of a run cost, or "" where there were none."""
    passes, ticks = int(story["trial_passes"]), int(story["ticks"])
    if not passes:
        return ""
    share = f", {number(100.0 * passes / ticks)} % of the run" if ticks else ""
    return f"trials took {passes} passes{share}"


TABLE: Final = (
    "trial", "tick", "pathology", "arm", "rung", "result", "ended", "figure", "steps", "why", "losses",
)  # fmt: skip


def table_of(story: Fact) -> dict[str, Any]:
    """Return all arms of all trials, one a row, as MLflow's table artifact."""
    rows = [
        [trial["id"], trial["tick"], trial["pathology"], *_row(arm)]
        for trial in story["trials"]
        for arm in told_of(trial).arms
    ]
    return {"columns": list(TABLE), "data": rows}


def _row(arm: Arm) -> list[Any]:
    """Return an arm in plain data; what is not finite as nothing, because JSON has no word for it."""
    branch, losses = arm.branch, " ".join(map(number, arm.branch.losses))
    rung = None if arm.result == "control" else branch.rung + 1
    ended, figure = (value if math.isfinite(value) else None for value in (branch.level, branch.figure))
    return [arm.label, rung, arm.result, ended, figure, len(branch.losses), arm.reason, losses]
