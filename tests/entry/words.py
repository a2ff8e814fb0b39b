"""Detectors and remedies that exist in one test only: what they find and do is set by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from supervisor.diagnoses.past import Past
from supervisor.errors import RemedyRefused
from supervisor.policy import Policy
from supervisor.records import PATHOLOGIES, Decision, Finding, Snapshot
from supervisor.registry import DETECTORS, REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun

Apply = Callable[[TrainingRun, Decision], Effect | None]


@contextmanager
def remedy(name: str, apply: Apply) -> Iterator[None]:
    """Register a remedy called `name` that does what `apply` does."""

    @REMEDIES.register(name)
    @dataclass(frozen=True)
    class TestRemedy:
        """Do what the test says."""

        def apply(self, run: TrainingRun, decision: Decision) -> Effect:
            return apply(run, decision) or Effect()

    try:
        yield
    finally:
        del REMEDIES._classes[name]


@contextmanager
def illness(name: str, ill: Callable[[Snapshot], bool]) -> Iterator[None]:
    """Register a detector whose finding is called `name`, and that sees it whenever `ill` says so.

    A shipped one of that name is out of the way for as long.
    """
    shipped = DETECTORS._classes.pop(name, None)

    @DETECTORS.register(name)
    @dataclass(frozen=True)
    class TestDetector:
        """See what the test says."""

        def inspect(self, now: Snapshot, past: Past) -> Finding | None:
            return Finding(name, now.tick, now.step, (), 0.5, "a test") if ill(now) else None

    try:
        yield
    finally:
        del DETECTORS._classes[name]
        if shipped is not None:
            DETECTORS._classes[name] = shipped


def policy(respond: dict[str, Any], **more: Any) -> Policy:
    """Return a policy that knows only what a test tells it; the shipped detectors but non_finite are off.

    So are trials, unless the test sets `verify`: a remedy of a test acts at once.
    """
    more = {"verify": {"trials": False}, **more}
    detect = {name: None for name in PATHOLOGIES if name != "non_finite" and name not in respond}
    return Policy.from_dict({"name": "test", "detect": detect, "respond": respond, **more})


def ruin(run: TrainingRun, _: Decision) -> Effect:
    """Make the training worse, lastingly."""
    kept = [p.detach().clone() for p in run.parameters]
    before = run.lr_multiplier
    with torch.no_grad():
        for parameter in run.parameters:
            parameter.mul_(-4.0)
    run.lr_multiplier = 1e-4

    def undo() -> None:
        run.lr_multiplier = before
        with torch.no_grad():
            for parameter, values in zip(run.parameters, kept, strict=True):
                parameter.copy_(values)

    return Effect({"weights": (1, -4)}, undo)


def refuse(*_: object) -> None:
    message = "not here"
    raise RemedyRefused(message)


def fail(*_: object) -> None:
    raise ZeroDivisionError
