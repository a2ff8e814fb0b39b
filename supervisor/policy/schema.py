"""The JSON schema of policy files, for editors: made from the same fields that the loader checks against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.policy import shipped
from supervisor.policy.check import LONGEST_LINE, SECTIONS
from supervisor.policy.fields import parameters_of
from supervisor.policy.vocabulary import REMEDY_NAMES, Vocabulary

Schema = dict[str, Any]

_LINE: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": LONGEST_LINE}
_TREATMENT: Final[Schema] = {"$ref": "#/definitions/treatment"}
_LADDER: Final[Schema] = {"type": "array", "items": {"$ref": "#/definitions/rung"}}
_BUDGET: Final[Schema] = {
    "type": "integer",
    "minimum": 1,
    "default": 1,
    "description": "how often the rung may be applied to one finding",
}


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
            "order": {"const": "policy"},
            **{name: _or_null(_section(name, cls)) for name, cls in SECTIONS.items()},
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


def _section(name: str, cls: type) -> Schema:
    schema = _fields(cls)
    if name == "verify":
        schema["properties"]["trials"] = {"const": False}
    return schema


def _treatments(remedies: Mapping[str, type]) -> Schema:
    fields = {name: _fields(cls) for name, cls in remedies.items()}
    budgeted = {name: {**f, "properties": {**f["properties"], "budget": _BUDGET}} for name, f in fields.items()}
    return {**_object({name: _or_null(f) for name, f in budgeted.items()}), "minProperties": 1, "maxProperties": 1}
