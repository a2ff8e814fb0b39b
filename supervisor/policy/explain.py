"""A policy -> what will happen when, in words and plain data, for a person who has to trust it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from supervisor.policy import wording
from supervisor.policy.context import NORMAL, Thresholds
from supervisor.policy.fields import parameters_of
from supervisor.policy.model import Policy, Rung
from supervisor.policy.vocabulary import Vocabulary
from supervisor.records import PATHOLOGIES, WITHIN_THE_TICK

_ALL: Final = Vocabulary()


@dataclass(frozen=True)
class Threshold:
    """One number that a finding depends on."""

    name: str
    value: Any  # None: not used
    meaning: str  # with its unit
    stated: bool  # by the policy or its context; else it is the detector's own


@dataclass(frozen=True)
class Step:
    """One rung in words."""

    rung: int  # 1 the first, as in the journal's reasons
    does: str
    when: str  # "": answers any finding of its pathology
    times: int  # at most, for one finding
    trial: bool  # whether it must first beat doing nothing
    never: str  # why it is never taken, "" where it may be


@dataclass(frozen=True)
class Answer:
    """How one pathology is seen and answered."""

    pathology: str
    summary: str
    off: str  # why nothing is looked for, "" where it is
    thresholds: tuple[Threshold, ...]
    ladder: tuple[Step, ...]
    end: str  # what happens when no rung is left


@dataclass(frozen=True)
class Remedy:
    """What a remedy does, and with which parameters where a rung states none."""

    name: str
    summary: str
    defaults: str


@dataclass(frozen=True)
class Explanation:
    """A policy as a person reads it."""

    name: str
    description: str
    hash: str
    context: tuple[str, ...]  # sentences: what is declared to be normal
    answers: tuple[Answer, ...]  # the most urgent first
    rules: tuple[str, ...]  # sentences that go for every ladder
    remedies: tuple[Remedy, ...]  # that any ladder may reach

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dataclasses.asdict(self)


def explain(policy: Policy, vocabulary: Vocabulary = _ALL) -> Explanation:
    """Return what the policy does, with every threshold that is in force, the detectors' own included."""
    known = vocabulary.detectors.names()
    urgent = [name for name in PATHOLOGIES if name in known]
    names = [*urgent, *(name for name in known if name not in urgent)]
    return Explanation(
        name=policy.name,
        description=policy.description,
        hash=policy.hash,
        context=tuple(policy.context.told()),
        answers=tuple(_answer(policy, name, vocabulary) for name in names),
        rules=tuple(_rules(policy)),
        remedies=tuple(_remedy(name, vocabulary) for name in sorted(policy.remedies)),
    )


def in_force(policy: Policy, vocabulary: Vocabulary = _ALL) -> dict[str, Thresholds]:
    """Return by pathology the thresholds in force, the detectors' own and the context included; None: switched off."""
    stated = policy.detecting
    return {name: _filled(stated.get(name, {}), vocabulary.detectors[name]) for name in vocabulary.detectors.names()}


def _filled(stated: Thresholds, detector: type) -> Thresholds:
    if stated is None:
        return None
    return {name: stated.get(name, one.default) for name, one in parameters_of(detector).items()}


def _answer(policy: Policy, name: str, vocabulary: Vocabulary) -> Answer:
    detector, stated = vocabulary.detectors[name], policy.detecting.get(name, {})
    ladder = policy.respond.get(name, ())
    thresholds = () if stated is None else tuple(
        Threshold(key, stated.get(key, one.default), one.description, key in stated)
        for key, one in parameters_of(detector).items()
    )  # fmt: skip
    return Answer(
        pathology=name,
        summary=_summary(detector),
        off=_why_off(policy, name) if stated is None else "",
        thresholds=thresholds,
        ladder=tuple(_step(policy, index, rung) for index, rung in enumerate(ladder, start=1)),
        end=_end(policy, ladder),
    )


def _why_off(policy: Policy, name: str) -> str:
    masked = NORMAL.get(policy.context.kind or "", {}).get(name)
    return f"in context {policy.context.kind} {masked[1]}" if masked is not None else "the policy switches it off"


def _step(policy: Policy, index: int, rung: Rung) -> Step:
    trial = policy.verify.trials and bool(rung.remedies - WITHIN_THE_TICK)
    barred = sorted(rung.remedies & policy.forbid)
    never = f"{' and '.join(barred)} {'is' if len(barred) == 1 else 'are'} forbidden" if barred else ""
    return Step(index, wording.doing(rung), wording.when(rung.when), rung.budget, trial, never)


def _end(policy: Policy, ladder: tuple[Rung, ...]) -> str:
    if not ladder:
        return "it is recorded, and answered with nothing"
    last = ladder[-1]
    unbound = not (last.remedies & policy.forbid or wording.when(last.when))
    if unbound and last.remedies & {"stop", "advise"}:
        return ""
    return "nothing more" if "advise" in policy.forbid else "advise"


def _remedy(name: str, vocabulary: Vocabulary) -> Remedy:
    remedy = vocabulary.remedies[name]
    defaults = {key: one.default for key, one in parameters_of(remedy).items() if one.default is not None}
    return Remedy(name, _summary(remedy), ", ".join(f"{key}={wording.plain(v)}" for key, v in defaults.items()))


def _summary(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def _rules(policy: Policy) -> Iterator[str]:
    verify, limits = policy.verify, policy.limits
    yield (
        "The most urgent finding is answered first, in the order above, one rung at a time. A rung is passed over "
        "where its conditions do not hold, where it is used up, and where it failed before."
    )
    yield (
        f"A rung's verdict falls after {verify.probation} ticks, or as soon as it is clear: what made things worse "
        "is taken back. Then the next rung has its turn, and what helped comes first when the illness returns."
    )
    yield _trials(policy)
    yield (
        f"At most {limits.interventions} rungs in a run, skips and clips not counted, "
        f"and {limits.cooldown} ticks of rest after a verdict unless the training is upset."
    )
    skips = any("skip_step" in rung.remedies for rung in policy.respond.get("non_finite", ()))
    if skips and "skip_step" not in policy.forbid:
        stop = "" if "stop" in policy.forbid else f"; {limits.consecutive_skips} in a row stop the training"
        yield f"A non-finite step is never taken. Bad data is skipped as often as it comes{stop}."
    if policy.order == "learned":
        yield "Rungs may change places as earlier runs suggest; skips, clips, a stop and advice keep theirs."
    if policy.forbid:
        yield f"Forbidden, wherever a ladder names them: {', '.join(sorted(policy.forbid))}."


def _trials(policy: Policy) -> str:
    if not policy.verify.trials:
        return "No trials: a rung is carried out at once, and its verdict alone tells whether it was right."
    return (
        "A rung with a trial is carried out only if it wins: it and those behind it run for some steps from the same "
        "state on the same batches as doing nothing. All trials may take "
        f"{policy.verify.trial_budget * 100:g} % of the run's passes; once they are spent, only a training that has "
        "nothing to lose is acted upon. Where no trial can be held, the rung's verdict tells whether it was right."
    )
