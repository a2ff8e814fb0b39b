"""Which cases can be cured at all: every remedy and sensible pair, tried by hand at the onset.

The answer is data, `curable.json` beside this file, made before anything is tuned: case -> what regains 95 %.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from supervisor.clinic import cases as collection
from supervisor.clinic.by_hand import TREATMENTS, ByHand
from supervisor.clinic.case import Case, regained
from supervisor.clinic.pool import Failure, work
from supervisor.clinic.rows import REPAIRED
from supervisor.clinic.runs import SECONDS_PER_RUN, build, run_plain
from supervisor.errors import RemedyRefused

PLACE: Final = Path(__file__).with_name("curable.json")
TWIN: Final = "twin"

_SEED: Final = 0


@dataclass(frozen=True)
class Attempt:
    """One treatment of one case; or its twin, which all of them are measured against."""

    case: str
    treatment: str


@dataclass(frozen=True)
class Came:
    """The score an attempt came to; NaN where the remedy was refused."""

    score: float
    chance: float


def read(place: Path = PLACE) -> dict[str, list[str]]:
    """Return what cures each case that was tried; nothing where none was."""
    return json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}


def jobs_for(cases: Iterable[Case], place: Path = PLACE) -> list[Attempt]:
    """Return what is left to try, case by case."""
    known = read(place)
    names = [case.name for case in cases if case.name not in known]
    return [Attempt(name, treatment) for name in names for treatment in (TWIN, *TREATMENTS)]


def examine(
    jobs: Sequence[Attempt], workers: int, done: Callable[[str], None] = lambda _: None, place: Path = PLACE
) -> None:
    """Do the attempts, and note each case as soon as all of its own are done. A case whose twin fails is left out."""
    note(((job, result) for job, result in work(perform, jobs, workers, lambda _: SECONDS_PER_RUN)), jobs, done, place)


def note(
    results: Iterable[tuple[Attempt, Came | Failure]], jobs: Sequence[Attempt], done: Callable[[str], None], place: Path
) -> None:
    """Write down what `results` say."""
    left = {job.case: sum(1 for other in jobs if other.case == job.case) for job in jobs}
    came: dict[str, dict[str, Came]] = {}
    for job, result in results:
        done(job.case)
        if isinstance(result, Came):
            came.setdefault(job.case, {})[job.treatment] = result
        left[job.case] -= 1
        of_case = came.get(job.case, {})
        if not left[job.case] and TWIN in of_case:
            _write({**read(place), job.case: cures(of_case)}, place)


def cures(came: dict[str, Came]) -> list[str]:
    """Return the treatments that regain 95 % of the twin's lead, in the order in which they were tried."""
    twin = came[TWIN]
    good = {name for name, c in came.items() if regained(c.score, twin.chance, twin.score) >= REPAIRED}
    return [name for name in TREATMENTS if name in good]


def perform(job: Attempt) -> Came:
    """Do an attempt at a case that the clinic holds."""
    torch.set_num_threads(1)
    return try_out(collection.find(job.case), job.treatment)


def try_out(case: Case, treatment: str) -> Came:
    """Train a case under a treatment, or its twin."""
    if treatment == TWIN:
        assert case.twin is not None
        ran = run_plain(build(case.twin, _SEED))
        return Came(ran.score, ran.chance)
    program = build(case.build, _SEED)
    try:
        ran = run_plain(program, ByHand(TREATMENTS[treatment], case.onset))
    except RemedyRefused:
        return Came(float("nan"), program.chance)
    return Came(ran.score, ran.chance)


def _write(known: dict[str, list[str]], place: Path) -> None:
    """Write the file whole or not at all."""
    new = place.with_suffix(".new")
    new.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
    new.replace(place)
