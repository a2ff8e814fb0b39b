"""Parameters by field: what a dataclass accepts from YAML, in words, as JSON schema, and checked strictly.

A detector's or remedy's fields are `Annotated[type, pydantic.Field(gt=..., le=..., description=...)]` with a default.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from supervisor.policy.model import Limits, Observe, Verify

BOUNDS: Final[Mapping[type, Mapping[str, Any]]] = {
    Observe: {"activations_every": Annotated[int, Field(ge=1, description="ticks between activation samples")]},
    Verify: {
        "probation": Annotated[int, Field(ge=1, description="ticks between applying a rung and its verdict")],
        "trials": Annotated[bool, Field(description="whether a rung must first beat doing nothing")],
        "trial_steps": Annotated[
            Annotated[int, Field(ge=4)] | Literal["auto"], Field(description="steps of one branch of a trial")
        ],
        "trial_budget": Annotated[
            float, Field(ge=0, le=1, description="passes of all trials, as a share of those of the run")
        ],
    },
    Limits: {
        "interventions": Annotated[int, Field(ge=0, description="rungs applied in a run, reflexes not counted")],
        "cooldown": Annotated[int, Field(ge=0, description="ticks after a verdict before the next rung")],
        "consecutive_skips": Annotated[int, Field(ge=1, description="skipped steps in a row before it stops")],
    },
}
"""What the policy's own sections accept; the model holds their defaults."""


@dataclass(frozen=True)
class Parameter:
    """One field of a dataclass, as a YAML file may set it."""

    name: str
    annotation: Any
    default: Any
    description: str

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its values."""
        schema = {**self._adapter.json_schema(), "description": self.description}
        return schema if self.default is dataclasses.MISSING else {**schema, "default": self.default}

    def accept(self, value: Any) -> Any:  # noqa: ANN401 - plain data of any shape
        """Return `value` as the field's type. Raises ValueError saying what was expected and what was found.

        Strict: no text for a number, no truth value for a number, nothing infinite; a whole number is a number.
        """
        try:
            accepted = self._adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError:
            accepted = math.nan
        if isinstance(accepted, float) and not math.isfinite(accepted):
            message = f"expected {expected(self._adapter.json_schema())}, found {found(value)}"
            raise ValueError(message) from None
        return accepted


def parameters_of(cls: type) -> dict[str, Parameter]:
    """Return the parameters of a dataclass by name. What is no field (a ClassVar) is none."""
    hints = {**typing.get_type_hints(cls, include_extras=True), **BOUNDS.get(cls, {})}
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return {f.name: Parameter(f.name, hints[f.name], f.default, _description(hints[f.name])) for f in fields}


def _description(annotation: Any) -> str:  # noqa: ANN401 - an annotation is anything
    noted = [meta.description for meta in getattr(annotation, "__metadata__", ()) if isinstance(meta, FieldInfo)]
    return next((text for text in noted if text), "")


_BOUNDS: Final = {
    "exclusiveMinimum": "above {:g}",
    "minimum": "of at least {:g}",
    "exclusiveMaximum": "below {:g}",
    "maximum": "at most {:g}",
}
_NOUNS: Final = {
    "number": "a number",
    "integer": "a whole number",
    "string": "a word",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping",
}


def expected(schema: Mapping[str, Any]) -> str:
    """Return in words what a JSON schema accepts: "'auto' or a number above 0"."""
    if "anyOf" in schema:
        return " or ".join(expected(one) for one in schema["anyOf"])
    words = [schema["const"]] if "const" in schema else schema.get("enum", [])
    if words:
        return " or ".join(found(word) for word in words)
    bounds = " and ".join(text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema)
    return f"{_NOUNS.get(schema.get('type', ''), 'another value')} {bounds}".strip()


def found(value: Any) -> str:  # noqa: ANN401 - plain data of any shape
    """Return a value in words, short enough for an error message."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return ascii(value if len(value) <= 40 else value[:37] + "...")
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
