"""One training of a case, run once: bare, supervised, or guarded by hand. What came of it, in plain data."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import torch

from supervisor.clinic import cases
from supervisor.clinic.case import Case, Program
from supervisor.clinic.plain import ClipAndSkip, Hand, seed_all, train
from supervisor.clinic.pool import attempt
from supervisor.entry import supervise

Kind = Literal["bare", "supervised", "twin", "clipped"]

SECONDS_PER_RUN: Final = 120.0
"""Wall time after which a run is ended: thirty times what one may take, because a machine may be busy."""


@dataclass(frozen=True)
class Seen:
    """A finding: what opened an incident."""

    pathology: str
    tick: int
    cause: str


@dataclass(frozen=True)
class Ran:
    """What came of one run. Where it failed, `error` says why and the score is NaN."""

    score: float = float("nan")
    chance: float = float("nan")
    planned: int = 0  # steps asked for
    ticks: int = 0
    steps: int = 0
    seconds: float = 0.0  # of this process, loading and scoring left out
    findings: tuple[Seen, ...] = ()
    interventions: tuple[str, ...] = ()  # remedies that changed the training, in order
    health: str = ""
    error: str = ""


@dataclass(frozen=True)
class Job:
    """Runs of one case that belong into one process, so that their times can be compared."""

    case: str
    seed: int
    kinds: tuple[Kind, ...]
    policy: str
    folder: str  # where supervised runs are recorded

    @property
    def limit(self) -> float:
        """Return how many seconds it may take."""
        return SECONDS_PER_RUN * len(self.kinds)


def perform(job: Job) -> dict[Kind, Ran]:
    """Do the runs of a job of a case that the clinic holds."""
    torch.set_num_threads(1)
    return examine(cases.find(job.case), job)


def examine(case: Case, job: Job) -> dict[Kind, Ran]:
    """Do the runs of a job of `case`. A run that fails says so, the others go on."""
    ran: dict[Kind, Ran] = {}
    for kind in job.kinds:
        result = attempt(_RUNS[kind], (case, job))
        ran[kind] = result if isinstance(result, Ran) else Ran(error=f"{kind}: {result.why}")
    return ran


def build(recipe: Callable[[int], Program], seed: int) -> Program:
    """Build a program from the same random numbers every time, also where its recipe draws from the global ones."""
    seed_all(seed)
    return recipe(seed)


def run_plain(program: Program, hand: Hand | None = None) -> Ran:
    """Train a program without supervisor, and score it."""
    ticks, steps, seconds = train(program.training, hand)
    planned = program.training.steps or steps
    return Ran(float(program.score()), program.chance, planned, ticks, steps, seconds)


def _bare(what: tuple[Case, Job]) -> Ran:
    case, job = what
    return run_plain(build(case.build, job.seed))


def _clipped(what: tuple[Case, Job]) -> Ran:
    case, job = what
    return run_plain(build(case.build, job.seed), ClipAndSkip())


def _twin(what: tuple[Case, Job]) -> Ran:
    case, job = what
    assert case.twin is not None
    return run_plain(build(case.twin, job.seed))


def _supervised(what: tuple[Case, Job]) -> Ran:
    """Train under the policy, and score what came of it; the score is never seen by the supervisor."""
    case, job = what
    program = build(case.build, job.seed)
    run_dir = Path(job.folder) / case.name.replace("/", "-") / f"seed-{job.seed}"
    training = replace(program.training, policy=job.policy, tracking=None, run_dir=run_dir, progress=False)
    began = time.process_time()
    report = supervise(training)
    seconds = time.process_time() - began
    return Ran(
        score=float(program.score()),
        chance=program.chance,
        planned=training.steps or report.steps,
        ticks=report.ticks,
        steps=report.steps,
        seconds=seconds,
        findings=tuple(Seen(f.pathology, f.tick, f.cause) for f in report.findings),
        interventions=tuple(decision.remedy for decision in report.interventions),
        health=report.health,
    )


_RUNS: Final[dict[Kind, Callable[[tuple[Case, Job]], Ran]]] = {
    "bare": _bare,
    "supervised": _supervised,
    "twin": _twin,
    "clipped": _clipped,
}
