"""What became of rungs in earlier runs -> the order in which a ladder is climbed. Pure: plain data in, a policy out.

Each rung is believed to help as often as a Beta distribution says. Before anything is known its mean falls with the
place on the ladder, so the policy's own order holds; every outcome moves it. The prior weighs as much as PRIOR
verdicts: a run in which a rung lost its trial and the next one helped does not change the order of both, two such do.
Outcomes count for the suspected cause they were seen under alone: what helps against too large a rate says nothing
about poor weights. What acts within the tick, a stop and advice keep their places, and nothing passes a stop or advice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from supervisor.policy.model import Policy, Rung, Turn
from supervisor.records import REFLEXES

Counts = Mapping[str, int]
"""By what became of a rung, one of WEIGHTS: how often it did."""

Table = Mapping[str, Mapping[str, Mapping[str, Counts]]]
"""By pathology, suspected cause and signature of a rung: what became of it. Plain data, as a start line holds it."""

WEIGHTS: Final[Mapping[str, tuple[float, float]]] = {
    "resolved": (1.0, 1.0),
    "persisted": (0.0, 1.0),
    "worsened": (0.0, 2.0),  # it did harm, and had to be taken back
    "won": (0.5, 0.5),  # a trial is short: half as much as a verdict
    "lost": (0.0, 0.5),
    "undecided": (0.0, 0.25),
}
"""What an outcome adds to (wins, tries). The first three are verdicts, the others trials."""

FIRST: Final = 0.5  # share of cases in which the first rung is believed to help before anything is known
FALL: Final = 0.75  # of that belief, from one rung to the next
PRIOR: Final = 9.0  # tries that this belief is worth

_BARRIERS: Final = frozenset({"stop", "advise"})


def signature(rung: Rung) -> str:
    """Return what a rung does, remedies with parameters, as a key: `rollback + lower_lr {"factor": 0.1}`."""
    texts = [f"{t.remedy} {json.dumps(t.params, sort_keys=True)}" if t.params else t.remedy for t in rung.treatments]
    return " + ".join(texts)


def reordered(policy: Policy, table: Table) -> Policy:
    """Return the policy with the turns of its rungs as `table` suggests; what it tells nothing of stays as written.

    The ladders themselves stay as they are, so that the number of a rung means the same in every run of a policy.
    """
    learned = {
        pathology: {cause: _turns(ladder, told) for cause, told in table[pathology].items()}
        for pathology, ladder in policy.respond.items()
        if pathology in table
    }
    return replace(policy, learned=learned)


def belief(place: int, counts: Counts) -> float:
    """Return how often a rung is believed to help: the posterior mean. `place` is that on the ladder, 0 the first."""
    wins, tries = (sum(WEIGHTS[what][i] * times for what, times in counts.items()) for i in (0, 1))
    return (PRIOR * FIRST * FALL**place + wins) / (PRIOR + tries)


def _turns(ladder: Sequence[Rung], told: Mapping[str, Counts]) -> tuple[Turn, ...]:
    known = [told.get(signature(rung), {}) for rung in ladder]
    order = list(range(len(ladder)))
    for movable in _stretches(ladder):
        best = sorted(movable, key=lambda index: -belief(index, known[index]))
        for slot, index in zip(movable, best, strict=True):
            order[slot] = index
    return tuple(Turn(index, tell(known[index])) for index in order)


def _stretches(ladder: Sequence[Rung]) -> Iterable[list[int]]:
    """Yield the rungs that may change places with each other."""
    stretch: list[int] = []
    for index, rung in enumerate(ladder):
        if rung.remedies & _BARRIERS:
            yield stretch
            stretch = []
        elif not rung.remedies <= REFLEXES:
            stretch.append(index)
    yield stretch


def tell(counts: Counts) -> str:
    """Return the evidence in words: "helped 3 of 4 times, won 5 of 6 trials in earlier runs". "": there is none."""
    judged, tried = (sum(counts.get(what, 0) for what in kinds) for kinds in (_VERDICTS, _TRIALS))
    texts = [f"helped {counts.get('resolved', 0)} of {judged} times"] if judged else []
    texts += [f"won {counts.get('won', 0)} of {tried} trials"] if tried else []
    return f"{', '.join(texts)} in earlier runs" if texts else ""


_VERDICTS: Final = ("resolved", "persisted", "worsened")
_TRIALS: Final = ("won", "lost", "undecided")
