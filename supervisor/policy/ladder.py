"""The ladder of a pathology: rungs in order, each one remedy or several that are tried, judged and undone as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Final

from pydantic import Field

from supervisor.causes import CAUSES
from supervisor.policy.document import Document, KeyPath
from supervisor.policy.fields import Parameter, found, parameters_of
from supervisor.policy.model import Rung, Treatment, When
from supervisor.policy.vocabulary import LATER_KEYS, Vocabulary, unknown


@dataclass(frozen=True)
class RungKeys:
    """What may stand beside the parameters of any remedy; in a list, it goes for the whole rung."""

    budget: Annotated[int, Field(ge=1, description="how often the rung may be applied to one finding")] = 1
    cause: Annotated[str | list[str], Field(description="only where one of these is a likely root cause")] = field(
        default_factory=list
    )
    where: Annotated[str, Field(min_length=1, description="only where a layer of this name or pattern is ill")] = ""
    after_step: Annotated[int, Field(ge=0, description="not before this step")] = 0
    until_step: Annotated[int | None, Field(ge=0, description="not after this step")] = None
    min_severity: Annotated[float, Field(ge=0, le=1, description="only findings at least this severe")] = 0.0


KEYS: Final = frozenset(one.name for one in fields(RungKeys))

SHAPE: Final = "a remedy (`stop`), a remedy with parameters (`lower_lr: {factor: 0.3}`), or a list of those"


def accept(
    document: Document, path: KeyPath, given: Mapping[str, Any], parameters: Mapping[str, Parameter],
) -> dict[str, Any]:  # fmt: skip
    """Return the parameters that are known and of the right type; complain about the others."""
    accepted = {}
    for key, value in given.items():
        try:
            accepted[key] = parameters[key].accept(value)
        except KeyError:
            document.complain((*path, key), unknown("key", key, parameters, LATER_KEYS))
        except ValueError as error:
            document.complain((*path, key), str(error))
    return accepted


def ladder(document: Document, path: KeyPath, given: Any, vocabulary: Vocabulary) -> tuple[Rung, ...]:  # noqa: ANN401
    """Return the rungs that are in order. An empty ladder answers its pathology with nothing."""
    if not isinstance(given, list):
        document.complain(path, f"expected a list of rungs, found {found(given)}")
        return ()
    rungs = [
        _rung(document, (*path, index), item, vocabulary)
        for index, several in enumerate(given)
        for item in _each(document, (*path, index), several)
    ]
    return tuple(rung for rung in rungs if rung is not None)


def _each(document: Document, path: KeyPath, item: Any) -> list[Any]:  # noqa: ANN401 - plain data
    """Return the rungs that `item` stands for: `lower_lr: {factor: [0.1, 0.01]}` is one of each value, in order."""
    parts = item if isinstance(item, list) else [item]
    several = [
        (place, remedy, key)
        for place, part in enumerate(parts)
        for remedy, params in (part.items() if isinstance(part, dict) else ())
        for key, value in (params.items() if isinstance(params, dict) else ())
        if key not in KEYS and isinstance(value, list) and value
    ]
    if not several:
        return [item]
    if len(several) > 1:
        document.complain(path, "several values may be given for one parameter of a rung, not for two")
        return []
    place, remedy, key = several[0]
    made = []
    for value in parts[place][remedy][key]:
        one = {remedy: {**parts[place][remedy], key: value}}
        made.append([*parts[:place], one, *parts[place + 1 :]] if isinstance(item, list) else one)
    return made


def _rung(document: Document, path: KeyPath, item: Any, vocabulary: Vocabulary) -> Rung | None:  # noqa: ANN401 - plain data
    if not isinstance(item, list):
        return _single(document, path, item, vocabulary)
    if not item:
        document.complain(path, f"expected {SHAPE}, found an empty list")
    singles = [_single(document, (*path, index), one, vocabulary) for index, one in enumerate(item)]
    rungs = [rung for rung in singles if rung is not None]
    treatments = tuple(treatment for rung in rungs for treatment in rung.treatments)
    names = [treatment.remedy for treatment in treatments]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        document.complain(path, f"{twice[0]!r} stands twice in one rung")
    when = next((rung.when for rung in rungs if rung.when != When()), When())
    return Rung(treatments, max(rung.budget for rung in rungs), when) if rungs else None


def _single(document: Document, path: KeyPath, item: Any, vocabulary: Vocabulary) -> Rung | None:  # noqa: ANN401 - plain data
    named = {item: None} if isinstance(item, str) else item
    if not isinstance(named, dict) or not named:
        document.complain(path, f"expected {SHAPE}, found {found(item)}")
        return None
    remedy, *others = named
    refusal = vocabulary.reject_remedy(remedy)
    if refusal:
        document.complain(path, refusal)
    if others:
        document.complain((*path, others[0]), _crowded(remedy, others[0], vocabulary))
    if refusal or others:
        return None
    params = named[remedy]
    if params is not None and not isinstance(params, dict):
        document.complain((*path, remedy), f"expected a mapping of parameters, found {found(params)}")
        return None
    return _treatment(document, (*path, remedy), remedy, params or {}, vocabulary)


def _crowded(remedy: str, other: str, vocabulary: Vocabulary) -> str:
    """Return what to say about a second key beside a remedy: mostly a parameter that is not indented enough."""
    known = parameters_of(vocabulary.remedies[remedy]) if remedy in vocabulary.remedies else {}
    if other in known or other in KEYS:
        return f"a parameter of {remedy!r} stands one level deeper: `{remedy}: {{{other}: ...}}`"
    if other in vocabulary.remedies:
        return f"one remedy to an item; several that are tried as one are a list: `[{remedy}, {other}]`"
    return f"one remedy to an item, found {remedy[:60]!r} and {other[:60]!r}"


def _treatment(
    document: Document, path: KeyPath, remedy: str, params: Mapping[str, Any], vocabulary: Vocabulary,
) -> Rung:  # fmt: skip
    stated = {key: value for key, value in params.items() if key in KEYS}
    keys = accept(document, path, stated, parameters_of(RungKeys))
    own = {key: value for key, value in params.items() if key not in KEYS}
    treatment = Treatment(remedy, accept(document, path, own, parameters_of(vocabulary.remedies[remedy])))
    causes = keys.pop("cause", ())
    causes = (causes,) if isinstance(causes, str) else tuple(causes)
    for cause in causes:
        if cause not in CAUSES:
            document.complain((*path, "cause"), unknown("cause", cause, CAUSES))
    return Rung((treatment,), keys.pop("budget", 1), When(cause=causes, **keys))
