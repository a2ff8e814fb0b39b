"""Fits one detector's thresholds to recorded runs, starting from those of a policy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from supervisor.errors import UsageError
from supervisor.policy import Policy
from supervisor.registry import DETECTORS
from supervisor.tuning.objective import Score, score
from supervisor.tuning.policy_file import Provenance, policy_text
from supervisor.tuning.replay import Recording
from supervisor.tuning.space import current_params, legible, search_space


@dataclass(frozen=True)
class TuneResult:
    """The fitted thresholds, what they gained on the runs they were fitted to, and a policy that holds them."""

    detector: str
    params: Mapping[str, Any]  # the tuned fields; the policy's own values if nothing better was found
    before: Mapping[str, float]  # figures of the policy as it is, see objective.Score
    after: Mapping[str, float]  # figures of `params`: never a higher cost than before
    policy_text: str  # YAML: the policy with the tuned `detect:` section

    @property
    def improved(self) -> bool:
        """Whether anything better than the policy's own thresholds was found."""
        return self.after["cost"] < self.before["cost"]


def tune_detector(
    detector: str,
    healthy: Sequence[Path],
    faulty: Sequence[tuple[Path, int]],
    policy: Policy,
    trials: int = 100,
    seed: int = 0,
    storage: str | None = None,
) -> TuneResult:
    """Fit `detector` to recorded runs; a faulty run comes with the tick at which its fault begins.

    `storage` keeps the study: an Optuna URL (`sqlite:///...`), or the path of a journal file. The same runs,
    thresholds and storage continue the same study. Without one, equal arguments give equal results.
    Raises UsageError for runs without figures, an onset outside its run, or runs that cannot tell good from bad.
    """
    problem = _Problem.pose(detector, _read(healthy, faulty), policy)
    if trials < 1:
        message = f"trials: {trials} given, at least 1 is needed."
        raise UsageError(message)
    before = problem.score(problem.start)
    with _quiet():
        params, after = _search(problem, before, trials, _study(problem, seed, storage))
    provenance = Provenance(detector, len(healthy), len(faulty), problem.ticks, trials, seed)
    text = policy_text(policy, params, provenance, before, after)
    return TuneResult(detector, params, before.figures(), after.figures(), text)


@dataclass(frozen=True)
class _Problem:
    """A detector, its thresholds as they are, what may vary, and the runs that judge."""

    detector: str
    current: Mapping[str, Any]
    space: Mapping[str, optuna.distributions.BaseDistribution]
    runs: Sequence[Recording]

    @staticmethod
    def pose(detector: str, runs: Sequence[Recording], policy: Policy) -> _Problem:
        cls = DETECTORS[detector]
        current = current_params(cls, policy.detect.get(detector))
        space = search_space(cls, current)
        if not space:
            message = f"detector {detector!r} has no field with both bounds: there is nothing to tune."
            raise UsageError(message)
        return _Problem(detector, current, space, runs)

    @property
    def start(self) -> dict[str, Any]:
        return {name: self.current[name] for name in self.space}

    @property
    def ticks(self) -> int:
        return sum(len(run.snapshots) for run in self.runs)

    @property
    def name(self) -> str:
        """A study's name: equal for equal runs and thresholds, so that no study mixes what cannot be compared."""
        runs = [(str(run.run_dir.resolve()), run.onset, len(run.snapshots)) for run in self.runs]
        facts = json.dumps([self.current, {name: str(d) for name, d in self.space.items()}, runs], sort_keys=True)
        return f"tune-{self.detector}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"

    def legible(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: legible(params[name], distribution) for name, distribution in self.space.items()}

    def score(self, params: Mapping[str, Any]) -> Score:
        return score(DETECTORS[self.detector](**{**self.current, **params}), self.runs)


def _read(healthy: Sequence[Path], faulty: Sequence[tuple[Path, int]]) -> list[Recording]:
    if not healthy and not faulty:
        message = "no recorded runs given. Give at least one faulty run with the tick of its onset, and healthy ones."
        raise UsageError(message)
    runs = [Recording.read(Path(path)) for path in healthy]
    runs += [Recording.read(Path(path), onset) for path, onset in faulty]
    if not faulty:
        message = "only healthy runs given: a detector that never speaks would win. Add a faulty run and its onset."
        raise UsageError(message)
    if not sum(run.healthy_ticks for run in runs):
        message = "no healthy tick given: a detector that always speaks would win. Add a healthy run."
        raise UsageError(message)
    return runs


def _search(problem: _Problem, before: Score, trials: int, study: optuna.Study) -> tuple[Mapping[str, Any], Score]:
    best, params = before, problem.start
    if any(trial.state.is_finished() for trial in study.trials):  # a continued study
        earlier = problem.legible(study.best_trial.params)
        best, params = min((best, params), (problem.score(earlier), earlier), key=lambda pair: pair[0].cost)
    study.enqueue_trial(problem.start, skip_if_exists=True)
    for _ in range(trials):
        trial = study.ask(dict(problem.space))
        tried = problem.legible(trial.params)
        found = problem.score(tried)
        study.tell(trial, found.cost)
        if found.cost < best.cost:  # an equal cost is no reason to change a threshold
            best, params = found, tried
    return params, best


def _study(problem: _Problem, seed: int, storage: str | None) -> optuna.Study:
    where = None if storage is None else _storage(storage)
    study = optuna.create_study(study_name=problem.name, storage=where, load_if_exists=True)
    # Offset by what was tried: a continued study must not draw its first random trials again.
    study.sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed + len(study.trials))
    return study


def _storage(place: str) -> str | BaseStorage:
    if "://" in place:
        return place
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The default lock is a symbolic link, which not every file system and account can make.
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own log lines off the user's terminal; warnings stay."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
