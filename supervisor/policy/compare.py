"""Two policies, resolved: what differs between them, key by key. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from supervisor.policy.context import Thresholds
from supervisor.policy.explain import in_force
from supervisor.policy.fields import parameters_of
from supervisor.policy.model import Policy, Rung
from supervisor.policy.vocabulary import Vocabulary
from supervisor.policy.writer import item

_ALL: Final = Vocabulary()
OFF: Final = "off"  # what stands for a detector that is switched off


@dataclass(frozen=True)
class Difference:
    """One key that two policies do not agree on. A ladder's values are lists of rungs, as a file would hold them."""

    key: str
    a: Any
    b: Any


def differences(a: Policy, b: Policy, vocabulary: Vocabulary = _ALL) -> list[Difference]:
    """Return what differs in effect: a threshold or parameter that is stated at its default is no difference.

    Name, description and what was learned from earlier runs are not compared.
    """
    return [
        *_sections(a, b, "context", "observe"),
        *_thresholds(in_force(a, vocabulary), in_force(b, vocabulary)),
        *_ladders(a, b, vocabulary),
        *_sections(a, b, "order", "verify", "limits"),
        *_values("forbid", sorted(a.forbid), sorted(b.forbid)),
    ]


def changed_rungs(a: Policy, b: Policy, pathology: str, vocabulary: Vocabulary = _ALL) -> list[tuple[str, Any]]:
    """Return the rungs of both ladders in order, each with "-" (only in `a`), "+" (only in `b`) or " " (in both)."""
    ladders = [list(policy.respond.get(pathology, ())) for policy in (a, b)]
    left, right = ([_effect(rung, vocabulary) for rung in ladder] for ladder in ladders)
    lines: list[tuple[str, Any]] = []
    for tag, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += [(" ", item(rung)) for rung in ladders[0][i:j]]
        else:
            lines += [("-", item(rung)) for rung in ladders[0][i:j]] + [("+", item(rung)) for rung in ladders[1][k:m]]
    return lines


def _sections(a: Policy, b: Policy, *names: str) -> Iterator[Difference]:
    for name in names:
        one, other = getattr(a, name), getattr(b, name)
        if not dataclasses.is_dataclass(one):
            yield from _values(name, one, other)
            continue
        for field in dataclasses.fields(one):
            yield from _values(f"{name}.{field.name}", *(_plain(getattr(part, field.name)) for part in (one, other)))


def _plain(value: Any) -> Any:  # noqa: ANN401 - a field of a section
    return list(value) if isinstance(value, tuple) else value


def _thresholds(a: Mapping[str, Thresholds], b: Mapping[str, Thresholds]) -> Iterator[Difference]:
    for name, one in a.items():
        other = b[name]
        if one is None or other is None:
            yield from _values(f"detect.{name}", *(OFF if part is None else "on" for part in (one, other)))
            continue
        for key in one:
            yield from _values(f"detect.{name}.{key}", one[key], other[key])


def _ladders(a: Policy, b: Policy, vocabulary: Vocabulary) -> Iterator[Difference]:
    for name in dict.fromkeys((*a.respond, *b.respond)):
        ladders = [policy.respond.get(name, ()) for policy in (a, b)]
        one, other = ([_effect(rung, vocabulary) for rung in ladder] for ladder in ladders)
        if one != other:
            yield Difference(f"respond.{name}", *([item(rung) for rung in ladder] for ladder in ladders))


def _effect(rung: Rung, vocabulary: Vocabulary) -> str:
    """Return a rung with every parameter, stated or not, as a key to compare by."""
    filled = []
    for treatment in rung.treatments:
        known = parameters_of(vocabulary.remedies[treatment.remedy])
        filled.append((treatment.remedy, {key: treatment.params.get(key, one.default) for key, one in known.items()}))
    return repr((filled, rung.budget, rung.when))


def _values(key: str, one: Any, other: Any) -> Iterator[Difference]:  # noqa: ANN401 - plain data
    if one != other:
        yield Difference(key, one, other)
