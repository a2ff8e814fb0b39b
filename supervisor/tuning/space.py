"""A detector's search space, read from its dataclass fields: what bounds a YAML value bounds the search."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

LOG_RATIO: Final = 100.0  # bounds at least two decades apart are searched on a log scale
NUDGE: Final = 0.01  # share of the span kept away from a bound that is itself excluded


def current_params(detector: type[Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return every field's value: the policy's where it gives one, the default elsewhere."""
    fields = dataclasses.fields(detector)
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    return {**defaults, **(given or {})}


def search_space(detector: type[Any], current: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Return what is tuned of `detector`: fields with both bounds, bools and Literals.

    A field whose current value is None is a mode that is switched off, and stays so.
    Bounds widen, if need be, to hold the current value: the search starts from it.
    """
    hints = get_type_hints(detector, include_extras=True)
    named = {
        field.name: _distribution(hints[field.name], current[field.name])
        for field in dataclasses.fields(detector)
        if current.get(field.name) is not None
    }
    return {name: distribution for name, distribution in named.items() if distribution is not None}


def legible(value: Any, distribution: BaseDistribution) -> Any:  # noqa: ANN401 - any parameter
    """Return a float with four significant digits if it stays within bounds; all else as it is."""
    if not isinstance(distribution, FloatDistribution):
        return value
    short = float(f"{value:.4g}")
    return short if distribution.low <= short <= distribution.high else value


def _distribution(hint: Any, current: Any) -> BaseDistribution | None:  # noqa: ANN401 - a type hint
    kind, marks = _unfold(hint)
    if get_origin(kind) is Literal:
        return CategoricalDistribution(get_args(kind))
    if kind is bool:
        return CategoricalDistribution((False, True))
    if kind not in {int, float}:
        return None
    bounds = _bounds(marks, whole=kind is int)
    if bounds is None:
        return None
    low, high, log = bounds
    low, high = min(low, current), max(high, current)
    log = log and low > 0
    return IntDistribution(int(low), int(high), log=log) if kind is int else FloatDistribution(low, high, log=log)


def _unfold(hint: Any) -> tuple[Any, tuple[Any, ...]]:  # noqa: ANN401 - a type hint
    """Return the bare type behind Annotated and `| None`, and all marks on the way."""
    marks: tuple[Any, ...] = ()
    while True:
        if get_origin(hint) is Annotated:
            hint, *found = get_args(hint)
            marks += tuple(found)
            continue
        options = [option for option in get_args(hint) if option is not type(None)]
        if get_origin(hint) in {Union, types.UnionType} and len(options) == 1:
            hint = options[0]
            continue
        return hint, marks


def _bounds(marks: Iterable[Any], *, whole: bool) -> tuple[float, float, bool] | None:
    """Return (low, high, log scale), all reachable, or None where a bound is missing."""
    found = {name: value for mark in marks for name, value in _limits(mark)}
    low, high = found.get("ge", found.get("gt")), found.get("le", found.get("lt"))
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    log = low > 0 and high / low >= LOG_RATIO
    nudge = 1 if whole else NUDGE * (low if log else high - low)
    return low + nudge * ("ge" not in found), high - nudge * ("le" not in found), log


def _limits(mark: Any) -> list[tuple[str, float]]:  # noqa: ANN401 - Field(...) or a bare annotated_types mark
    return [
        (name, value)
        for single in getattr(mark, "metadata", [mark])
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(single, name, None)) is not None
    ]
