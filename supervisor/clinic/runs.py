"""One training of a case, run once: bare, supervised, or guarded by hand. What came of it, in plain data.

Whatever else is to be compared is an arm: a function MODULE:FUNCTION of a case and a seed that trains it in its own
way, from `build(case.build, seed)` as often as it likes, and says what came of it and what it cost.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import torch

from supervisor.clinic import cases
from supervisor.clinic.case import Case, Program
from supervisor.clinic.plain import ClipAndSkip, Hand, seed_all, train
from supervisor.clinic.pool import attempt
from supervisor.entry import supervise
from supervisor.errors import UsageError
from supervisor.recording.report import Report
from supervisor.registry import nearest

Kind = str  # "bare", "supervised", "twin", "clipped", or the MODULE:FUNCTION of an arm

SECONDS_PER_RUN: Final = 120.0
"""Wall time after which a run is ended: thirty times what one may take, because a machine may be busy."""

ARM_RUNS: Final = 8
"""So many runs an arm may take the time of: it may train anew as often as it likes."""


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
    trial_passes: int = 0  # forward and backward passes beside the ticks
    error: str = ""

    @property
    def passes(self) -> float | None:
        """All passes for each step asked for: what the run cost; None where it failed."""
        return (self.ticks + self.trial_passes) / self.planned if self.planned else None


Arm = Callable[[Case, int], Ran]  # case, seed: what came of it


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
        arms = sum(_is_arm(kind) for kind in self.kinds)
        return SECONDS_PER_RUN * (len(self.kinds) + (ARM_RUNS - 1) * arms)


def perform(job: Job) -> dict[Kind, Ran]:
    """Do the runs of a job of a case that the clinic holds."""
    torch.set_num_threads(1)
    return examine(cases.find(job.case), job)


def examine(case: Case, job: Job) -> dict[Kind, Ran]:
    """Do the runs of a job of `case`. A run that fails says so, the others go on."""
    ran: dict[Kind, Ran] = {}
    for kind in job.kinds:
        result = attempt(_run, (kind, case, job))
        ran[kind] = result if isinstance(result, Ran) else Ran(error=f"{kind}: {result.why}")
    return ran


def _run(what: tuple[Kind, Case, Job]) -> Ran:
    kind, case, job = what
    return arm(kind)(case, job.seed) if _is_arm(kind) else _RUNS[kind](case, job)


def _is_arm(kind: Kind) -> bool:
    return ":" in kind


def arm(name: Kind) -> Arm:
    """Import the arm MODULE:FUNCTION; UsageError where there is none."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        message = f"{name}: expected MODULE:FUNCTION, a function of a case and a seed that returns a Ran"
        raise UsageError(message)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        message = f"{name}: there is no module {error.name!r} here or installed"
        raise UsageError(message) from None
    function = getattr(found, attribute, None)
    if not callable(function):
        known = [one for one, value in vars(found).items() if callable(value)]
        message = f"{name}: {found.__file__} has no function {attribute!r}.{nearest(attribute, known)}"
        raise UsageError(message)
    return cast("Arm", function)


def build(recipe: Callable[[int], Program], seed: int) -> Program:
    """Build a program from the same random numbers every time, also where its recipe draws from the global ones."""
    seed_all(seed)
    return recipe(seed)


def run_plain(program: Program, hand: Hand | None = None) -> Ran:
    """Train a program without supervisor, and score it."""
    ticks, steps, seconds = train(program.training, hand)
    planned = program.training.steps or steps
    return Ran(float(program.score()), program.chance, planned, ticks, steps, seconds)


def run_reported(program: Program, report: Report, seconds: float = 0.0) -> Ran:
    """Score a program that was trained under supervision, and tell what its report says."""
    return Ran(
        score=float(program.score()),
        chance=program.chance,
        planned=program.training.steps or report.steps,
        ticks=report.ticks,
        steps=report.steps,
        seconds=seconds,
        findings=tuple(Seen(f.pathology, f.tick, f.cause) for f in report.findings),
        interventions=tuple(decision.remedy for decision in report.interventions),
        health=report.health,
        trial_passes=report.trial_passes,
    )


def _bare(case: Case, job: Job) -> Ran:
    return run_plain(build(case.build, job.seed))


def _clipped(case: Case, job: Job) -> Ran:
    return run_plain(build(case.build, job.seed), ClipAndSkip())


def _twin(case: Case, job: Job) -> Ran:
    assert case.twin is not None
    return run_plain(build(case.twin, job.seed))


def _supervised(case: Case, job: Job) -> Ran:
    """Train under the policy, and score what came of it; the score is never seen by the supervisor."""
    program = build(case.build, job.seed)
    run_dir = Path(job.folder) / case.name.replace("/", "-") / f"seed-{job.seed}"
    training = replace(program.training, policy=job.policy, tracking=None, run_dir=run_dir, progress=False)
    began = time.process_time()
    report = supervise(training)
    return run_reported(program, report, time.process_time() - began)


_RUNS: Final[dict[Kind, Callable[[Case, Job], Ran]]] = {
    "bare": _bare,
    "supervised": _supervised,
    "twin": _twin,
    "clipped": _clipped,
}
