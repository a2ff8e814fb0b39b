"""A policy -> plain data and YAML that load back to an equal policy."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import yaml

from supervisor.policy.context import Context
from supervisor.policy.model import Policy, Rung, When
from supervisor.policy.nodes import CoreResolver

_NEW: Final[dict[Any, Any]] = CoreResolver.yaml_implicit_resolvers
_OLD: Final[dict[Any, Any]] = yaml.SafeDumper.yaml_implicit_resolvers  # YAML 1.1: `on` is true, `1:30` is 90


class Dumper(yaml.SafeDumper):
    """Quotes a word that any YAML reader, old or new, would take for something else."""


Dumper.yaml_implicit_resolvers = {first: [*_NEW.get(first, []), *_OLD.get(first, [])] for first in {*_NEW, *_OLD}}
Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def to_dict(policy: Policy) -> dict[str, Any]:
    """Return the mapping that a YAML file of this policy would hold, with everything inherited written out."""
    return {
        "name": policy.name,
        **({"description": policy.description} if policy.description else {}),
        **_context(policy.context),
        "observe": dataclasses.asdict(policy.observe),
        "detect": {name: None if values is None else dict(values) for name, values in policy.detect.items()},
        "respond": {name: [item(rung) for rung in ladder] for name, ladder in policy.respond.items()},
        "order": policy.order,
        "verify": dataclasses.asdict(policy.verify),
        "limits": dataclasses.asdict(policy.limits),
        "forbid": sorted(policy.forbid),
    }


def _context(context: Context) -> dict[str, Any]:
    """Return the section of what was declared; nothing where nothing was."""
    stated = {"kind": context.kind, "frozen": list(context.frozen), "warmup": context.warmup}
    stated = {key: value for key, value in stated.items() if value}
    return {"context": stated} if stated else {}


def item(rung: Rung) -> Any:  # noqa: ANN401 - a word, a mapping or a list
    """Return a rung as a ladder in a file would hold it."""
    items: list[Any] = []
    for treatment in rung.treatments:
        params = {**treatment.params, **({} if items else _keys(rung))}
        items.append({treatment.remedy: params} if params else treatment.remedy)
    return items[0] if len(items) == 1 else items


def _keys(rung: Rung) -> dict[str, Any]:
    """Return what stands beside the parameters of the rung's first remedy: what differs from the defaults."""
    stated = {"budget": rung.budget, **dataclasses.asdict(rung.when), "cause": list(rung.when.cause)}
    defaults = {"budget": 1, **dataclasses.asdict(When()), "cause": []}
    return {key: value for key, value in stated.items() if value != defaults[key]}


def to_yaml(policy: Policy) -> str:
    """Return the policy as YAML."""
    return yaml.dump(
        to_dict(policy), Dumper=Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )
