"""Plans the runs of a clinic, spreads them over processes, and puts what came of them into rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from supervisor.clinic.case import Case, Half, Program
from supervisor.clinic.cases import half_of
from supervisor.clinic.pool import Failure, work
from supervisor.clinic.rows import Row
from supervisor.clinic.runs import Job, Kind, Ran, perform

Done = Callable[[Job], None]
Task = Callable[[Job], dict[Kind, Ran]]


def plan(
    cases: Sequence[Case], seeds: int, policy: str, folder: Path,
    *, baselines: bool = False, arms: Sequence[Kind] = (),
) -> list[Job]:  # fmt: skip
    """Return the jobs for all cases and seeds. A twin that several cases share is trained once a seed.

    `arms` are compared on faulty cases: on a healthy one there is nothing to repair.
    """
    kinds: tuple[Kind, ...] = ("bare", "supervised", "clipped") if baselines else ("bare", "supervised")
    jobs = []
    for seed in range(seeds):
        planned: set[Hashable] = set()
        for case in cases:
            own = kinds if case.healthy else (*kinds, *arms)
            jobs.append(Job(case.name, seed, own, policy, str(folder)))
            if case.twin is not None and (key := twin_key(case)) not in planned:
                planned.add(key)
                jobs.append(Job(case.name, seed, ("twin",), policy, str(folder)))
    return jobs


def rows(
    cases: Sequence[Case],
    jobs: Sequence[Job],
    workers: int,
    done: Done = lambda _: None,
    task: Task = perform,
    half: Callable[[str], Half] = half_of,
) -> Iterator[Row]:
    """Do the jobs and yield a row as soon as a case has all its runs. `done` is told of every job that ended."""
    results = work(task, jobs, workers, lambda job: job.limit)
    yield from gather(cases, ((job, _told(job, result)) for job, result in results), done, half)


def gather(
    cases: Sequence[Case],
    results: Iterable[tuple[Job, dict[Kind, Ran]]],
    done: Done = lambda _: None,
    half: Callable[[str], Half] = half_of,
) -> Iterator[Row]:
    """Put results into rows, in the order in which cases become complete."""
    by_name = {case.name: case for case in cases}
    own: dict[tuple[str, int], dict[Kind, Ran]] = {}
    twins: dict[tuple[Hashable, int], Ran] = {}
    for job, ran in results:
        done(job)
        if job.kinds == ("twin",):
            twins[twin_key(by_name[job.case]), job.seed] = ran["twin"]
        else:
            own[job.case, job.seed] = ran
        for name, seed in tuple(own):
            case = by_name[name]
            if case.twin is None:
                yield Row(case, half(name), seed, own.pop((name, seed)))
            elif (twin := twins.get((twin_key(case), seed))) is not None:
                yield Row(case, half(name), seed, {**own.pop((name, seed)), "twin": twin})


def _told(job: Job, result: dict[Kind, Ran] | Failure) -> dict[Kind, Ran]:
    """Return the runs of a job whose process was lost as failed ones."""
    if isinstance(result, Failure):
        return {kind: Ran(error=f"{kind}: {result.why}") for kind in job.kinds}
    return result


def twin_key(case: Case) -> Hashable:
    """Return what two cases have in common whose twins are the same program."""
    return _identity(case.twin)


def _identity(recipe: Callable[[int], Program] | Any) -> Hashable:  # noqa: ANN401 - partials hold anything
    if isinstance(recipe, partial):
        named = tuple(sorted((name, _identity(value)) for name, value in recipe.keywords.items()))
        return _identity(recipe.func), tuple(map(_identity, recipe.args)), named
    try:
        hash(recipe)
    except TypeError:
        return id(recipe)
    return type(recipe).__name__, recipe
