"""The JSON schema of policy files, for editors: made from the same fields that the loader checks against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.policy import shipped
from supervisor.policy.check import LONGEST_LINE, MORE, ORDERS, SECTIONS
from supervisor.policy.fields import parameters_of
from supervisor.policy.ladder import RungKeys
from supervisor.policy.vocabulary import REMEDY_NAMES, Vocabulary

Schema = dict[str, Any]

_LINE: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": LONGEST_LINE}
_TREATMENT: Final[Schema] = {"$ref": "#/definitions/treatment"}
_LADDER: Final[Schema] = {"type": "array", "items": {"$ref": "#/definitions/rung"}}


def json_schema(vocabulary: Vocabulary | None = None) -> Schema:
    """Return the schema of a policy file, for the detectors and remedies that are registered."""
    words = vocabulary or Vocabulary()
    remedies = {name: words.remedies[name] for name in words.remedies.names()}
    detectors = {name: words.detectors[name] for name in words.detectors.names()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Policy of a training supervisor",
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": _LINE,
            "description": _LINE,
            "extends": {"type": "string", "description": f"{', '.join(shipped.names())}, or a relative path"},
            "detect": _object({name: _or_null(_fields(cls)) for name, cls in detectors.items()}),
            "respond": _object(dict.fromkeys(detectors, _LADDER)),
            MORE: {
                **_object(dict.fromkeys(detectors, _LADDER)),
                "description": "rungs to put before those of the policy that this one extends",
            },
            "order": {"enum": list(ORDERS), "description": "of the rungs; learned: as earlier runs suggest"},
            **{name: _or_null(_fields(cls)) for name, cls in SECTIONS.items()},
            "forbid": {"type": "array", "items": {"enum": sorted({*REMEDY_NAMES, *remedies})}},
        },
        "definitions": {
            "rung": {"anyOf": [_TREATMENT, {"type": "array", "minItems": 1, "items": _TREATMENT}]},
            "treatment": {"anyOf": [{"enum": sorted(remedies)}, _treatments(remedies)]},
        },
    }


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _fields(cls: type) -> Schema:
    summary = (cls.__doc__ or "").partition("\n")[0]
    return {**_object({name: one.schema for name, one in parameters_of(cls).items()}), "description": summary}


def _several(schema: Schema) -> Schema:
    """Return the schema of parameters each of which may be a list: one rung of each value."""
    either = {
        name: {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}
        for name, one in schema["properties"].items()
    }
    return {**schema, "properties": either}


def _treatments(remedies: Mapping[str, type]) -> Schema:
    fields = {name: _several(_fields(cls)) for name, cls in remedies.items()}
    keys = {name: one.schema for name, one in parameters_of(RungKeys).items()}
    budgeted = {name: {**f, "properties": {**f["properties"], **keys}} for name, f in fields.items()}
    return {**_object({name: _or_null(f) for name, f in budgeted.items()}), "minProperties": 1, "maxProperties": 1}
