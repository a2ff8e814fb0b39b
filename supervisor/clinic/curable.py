"""Which cases can be cured at all: every remedy and sensible pair, tried by hand at the onset until one cures.

The answer is data, `curable.json` beside this file, made before anything is tuned: case -> what regains 95 %, and of a
case that nothing has cured yet what was tried. So a new treatment is tried on those alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from supervisor.clinic import cases as collection
from supervisor.clinic.by_hand import ByHand
from supervisor.clinic.case import Case, regained
from supervisor.clinic.pool import Failure, attempt, work
from supervisor.clinic.rows import REPAIRED
from supervisor.clinic.runs import SECONDS_PER_RUN, Ran, build, run_plain
from supervisor.clinic.treatments import TREATMENTS

PLACE: Final = Path(__file__).with_name("curable.json")

_SEED: Final = 0


@dataclass(frozen=True)
class Attempts:
    """The treatments of one case, in the order in which they are to be tried."""

    case: str
    treatments: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What is known of one case: the treatments that cure it; where there are none, those that were tried."""

    cures: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()

    def plus(self, later: Known) -> Known:
        """Return what is known after further attempts."""
        return Known((*self.cures, *later.cures), tuple(dict.fromkeys((*self.tried, *later.tried))))


def read(place: Path = PLACE) -> dict[str, list[str]]:
    """Return what cures each case that was tried; nothing where none was."""
    return {name: list(known.cures) for name, known in _load(place).items()}


def jobs_for(cases: Iterable[Case], place: Path = PLACE) -> list[Attempts]:
    """Return what is left to try on cases that nothing has cured yet; first what has cured most of their kind."""
    known = _load(place)
    jobs = []
    for case in cases:
        past = known.get(case.name, Known())
        left = tuple(name for name in _promising(case, known) if name not in past.tried)
        if left and not past.cures:
            jobs.append(Attempts(case.name, left))
    return jobs


def _promising(case: Case, known: Mapping[str, Known]) -> list[str]:
    """Return all treatments, ordered by how often they are known to cure: this pathology, then any."""
    kin = {other.name for other in collection.all_cases() if other.pathology == case.pathology}
    akin = Counter(cure for name, past in known.items() if name in kin for cure in past.cures)
    any_kind = Counter(cure for past in known.values() for cure in past.cures)
    return sorted(TREATMENTS, key=lambda name: (-akin[name], -any_kind[name]))


def examine(
    jobs: Sequence[Attempts], workers: int, done: Callable[[str], None] = lambda _: None, place: Path = PLACE
) -> None:
    """Do the attempts, and note each case as soon as it is done. A case whose twin or process fails is left out."""
    note(work(perform, jobs, workers, lambda job: SECONDS_PER_RUN * (1 + len(job.treatments))), done, place)


def note(
    results: Iterable[tuple[Attempts, Known | Failure]], done: Callable[[str], None] = lambda _: None,
    place: Path = PLACE,
) -> None:  # fmt: skip
    """Write down what `results` say."""
    for job, result in results:
        done(job.case)
        if isinstance(result, Known):
            known = _load(place)
            _write({**known, job.case: known.get(job.case, Known()).plus(result)}, place)


def perform(job: Attempts) -> Known:
    """Do the attempts at a case that the clinic holds."""
    torch.set_num_threads(1)
    return try_all(collection.find(job.case), job.treatments)


def try_all(case: Case, treatments: Iterable[str]) -> Known:
    """Try the treatments until one cures. One that is refused, or breaks the training, is tried and cures not."""
    assert case.twin is not None
    twin = run_plain(build(case.twin, _SEED))
    tried = []
    for name in treatments:
        tried.append(name)
        came = attempt(lambda name: try_out(case, name), name)
        if isinstance(came, Ran) and regained(came.score, twin.chance, twin.score) >= REPAIRED:
            return Known((name,), tuple(tried))
    return Known((), tuple(tried))


def try_out(case: Case, treatment: str) -> Ran:
    """Train a case under a treatment. Raises RemedyRefused where it does not fit."""
    return run_plain(build(case.build, _SEED), ByHand(TREATMENTS[treatment], case.onset))


def _load(place: Path) -> dict[str, Known]:
    if not place.exists():
        return {}
    facts = json.loads(place.read_text(encoding="utf-8"))
    return {name: Known(tuple(known["cures"]), tuple(known.get("tried", ()))) for name, known in facts.items()}


def _write(known: Mapping[str, Known], place: Path) -> None:
    """Write the file whole or not at all. Of a cured case it is enough to know what cures it."""
    facts: dict[str, dict[str, Any]] = {}
    for name, one in sorted(known.items()):
        facts[name] = {"cures": one.cures} if one.cures else {"cures": [], "tried": one.tried}
    new = place.with_suffix(".new")
    new.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    new.replace(place)
