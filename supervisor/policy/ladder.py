"""The ladder of a pathology: rungs in order, each one remedy or several that are tried, judged and undone as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.policy.document import Document, KeyPath
from supervisor.policy.fields import Parameter, found, parameters_of
from supervisor.policy.model import Rung, Treatment
from supervisor.policy.vocabulary import LATER_KEYS, Vocabulary, unknown

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
    rungs = [_rung(document, (*path, index), item, vocabulary) for index, item in enumerate(given)]
    return tuple(rung for rung in rungs if rung is not None)


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
    return Rung(treatments, max(rung.budget for rung in rungs)) if rungs else None


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
    if other in known or other == "budget":
        return f"a parameter of {remedy!r} stands one level deeper: `{remedy}: {{{other}: ...}}`"
    if other in vocabulary.remedies:
        return f"one remedy to an item; several that are tried as one are a list: `[{remedy}, {other}]`"
    return f"one remedy to an item, found {remedy[:60]!r} and {other[:60]!r}"


def _treatment(
    document: Document, path: KeyPath, remedy: str, params: Mapping[str, Any], vocabulary: Vocabulary,
) -> Rung:  # fmt: skip
    budget = params.get("budget", 1)
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        document.complain((*path, "budget"), f"expected a whole number of at least 1, found {found(budget)}")
        budget = 1
    own = {key: value for key, value in params.items() if key != "budget"}
    known = parameters_of(vocabulary.remedies[remedy])
    return Rung((Treatment(remedy, accept(document, path, own, known)),), budget)
