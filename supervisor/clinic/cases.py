"""All cases of the clinic, in their two halves, and how some of them are picked."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Final

from supervisor.clinic.case import Case, Half
from supervisor.errors import UsageError
from supervisor.records import PATHOLOGIES
from supervisor.registry import nearest

HALVES: Final[dict[Half, str]] = {"development": "development", "held-out": "held_out"}
"""The halves, and the packages that hold them. Nothing is tuned on the held-out one."""

_QUICK_CONTROLS: Final = 5  # of each half


@cache
def cases_of(half: Half) -> tuple[Case, ...]:
    """Return the cases of one half, in the order they were written down."""
    cases: tuple[Case, ...] = importlib.import_module(f"{__package__}.{HALVES[half]}").CASES
    return cases


def all_cases() -> tuple[Case, ...]:
    """Return the cases of both halves."""
    return tuple(case for half in HALVES for case in cases_of(half))


@cache
def half_of(name: str) -> Half:
    """Return the half that the case `name` is in; UsageError for an unknown one."""
    for half in HALVES:
        if any(case.name == name for case in cases_of(half)):
            return half
    raise UsageError(_unknown(name, (case.name for case in all_cases())))


@cache
def find(name: str) -> Case:
    """Return the case called `name`; UsageError for an unknown one."""
    return next(case for case in cases_of(half_of(name)) if case.name == name)


def select(cases: Sequence[Case], patterns: Iterable[str]) -> tuple[Case, ...]:
    """Return the cases whose name, pathology or family fits one of `patterns`; all of them where there is none.

    A pattern is a word or has wildcards: `mlp/*`, `dead_units`, `rnn`; `healthy` are the controls. UsageError for
    one that fits nothing.
    """
    patterns = tuple(patterns)
    for pattern in patterns:
        if not any(_fits(case, pattern) for case in cases):
            known = {word for case in cases for word in (case.name, case.pathology, case.family)}
            raise UsageError(_unknown(pattern, known))
    return tuple(c for c in cases if not patterns or any(_fits(c, pattern) for pattern in patterns))


def _fits(case: Case, pattern: str) -> bool:
    return any(fnmatchcase(word, pattern) for word in (case.name, case.pathology, case.family, *case.expect))


def _unknown(pattern: str, known: Iterable[str]) -> str:
    return f"no case fits {pattern!r}: give a name, a pathology or a family; * fits anything.{nearest(pattern, known)}"


def quick(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Return a fixed few: of each half two cases of every pathology, and controls spread over its list."""
    chosen: list[Case] = []
    for half in HALVES:
        own = [case for case in cases if half_of(case.name) == half]
        for pathology in PATHOLOGIES:
            faulty = [case for case in own if case.pathology == pathology]
            chosen += faulty[:1] + faulty[1:][-1:]  # far apart in the list: other networks
        controls = [case for case in own if case.healthy]
        chosen += controls[:: max(1, -(-len(controls) // _QUICK_CONTROLS))]
    return tuple(chosen)


def flaws(cases: Sequence[Case]) -> list[str]:
    """Return what is wrong with a collection: names given twice, faults without a twin, words nobody knows."""
    names = [case.name for case in cases]
    found = [f"{name}: the name is given twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for case in cases:
        if unknown := case.expect - set(PATHOLOGIES):
            found.append(f"{case.name}: expects unknown pathologies: {', '.join(sorted(unknown))}")
        if case.main and case.main not in case.expect:
            found.append(f"{case.name}: filed under {case.main}, which it does not expect")
        if case.expect and case.twin is None:
            found.append(f"{case.name}: has a fault and no healthy twin")
        if case.expect and not case.causes:
            found.append(f"{case.name}: has a fault and no root cause")
        if case.onset < 1:
            found.append(f"{case.name}: its onset is tick {case.onset}, but the first tick is 1")
    return found
