"""Rungs and conditions in words: as a file would hold them, and as a person reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from supervisor.policy.model import Rung, Treatment, When
from supervisor.policy.writer import Dumper


def inline(value: Any) -> str:  # noqa: ANN401 - plain data
    """Return plain data as YAML of one line, a mapping of one key without braces: `lower_lr: {factor: 0.1}`."""
    if isinstance(value, dict) and len(value) == 1:
        key, content = next(iter(value.items()))
        return f"{inline(key)}: {braced(content)}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    return braced(value)


def braced(value: Any) -> str:  # noqa: ANN401 - plain data
    """Return plain data as YAML of one line, every mapping in braces."""
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def treatment(one: Treatment) -> str:
    """Return `lower_lr(factor=0.1, min_lr=1e-06)`."""
    params = ", ".join(f"{name}={plain(value)}" for name, value in one.params.items())
    return f"{one.remedy}({params})" if params else one.remedy


def doing(rung: Rung) -> str:
    """Return what a rung does: its remedies with the parameters that are stated, in their order."""
    return " + ".join(map(treatment, rung.treatments))


def plain(value: Any) -> str:  # noqa: ANN401 - plain data
    """Return a parameter's value for a table: `0.1`, `auto`, `true`, `none`."""
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "none"
    return json.dumps(value) if isinstance(value, bool) else str(value)


def when(conditions: When) -> str:
    """Return which findings a rung answers, "" if any."""
    return "; ".join(_conditions(conditions))


def _conditions(conditions: When) -> Iterator[str]:
    if conditions.cause:
        yield f"cause: {either(conditions.cause)}"
    if conditions.where:
        yield f"in {conditions.where}"
    if conditions.after_step:
        yield f"from step {conditions.after_step} on"
    if conditions.until_step is not None:
        yield f"up to step {conditions.until_step}"
    if conditions.min_severity:
        yield f"severity at least {conditions.min_severity:g}"


def times(budget: int) -> str:
    """Return how often, in words."""
    return {1: "once", 2: "twice"}.get(budget, f"{budget} times")


def either(words: Sequence[str]) -> str:
    """Return `one, two or three`."""
    return " or ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
