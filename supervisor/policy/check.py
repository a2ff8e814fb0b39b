"""One document -> the part of a policy it states. Every problem is noted in the document, none is raised."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import Field

from supervisor.policy.context import KINDS, Kind
from supervisor.policy.document import Document, KeyPath
from supervisor.policy.fields import found, parameters_of
from supervisor.policy.ladder import accept, ladder
from supervisor.policy.model import Limits, Observe, Order, Rung, Verify
from supervisor.policy.vocabulary import LATER_KEYS, Vocabulary, unknown


@dataclass(frozen=True)
class Declared:
    """What is normal in this training."""

    kind: Annotated[Kind | None, Field(description="what the loss means; it masks and loosens rules")] = None
    frozen: Annotated[list[str], Field(description="names or patterns of layers meant to stand still")] = field(
        default_factory=list
    )
    warmup: Annotated[int, Field(ge=0, description="steps before plateau and instability are judged")] = 0


SECTIONS: Final[Mapping[str, type]] = {"context": Declared, "observe": Observe, "verify": Verify, "limits": Limits}
MORE: Final = "+respond"
KEYS: Final = ("name", "description", "extends", "detect", "respond", MORE, "order", "forbid", *SECTIONS)
ORDERS: Final[tuple[Order, ...]] = typing.get_args(Order)
LONGEST_LINE: Final = 200  # characters of a name or description


@dataclass
class Part:
    """What one document states; the rest it inherits."""

    name: str = ""
    description: str = ""
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    detect: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    respond: dict[str, tuple[Rung, ...]] = field(default_factory=dict)
    more: dict[str, tuple[Rung, ...]] = field(default_factory=dict)  # before those that are inherited
    order: Order | None = None
    forbid: frozenset[str] = frozenset()


def check(document: Document, vocabulary: Vocabulary) -> Part:
    """Return what `document` states, without whatever is wrong in it."""
    return _Check(document, vocabulary).part()


class _Check:
    def __init__(self, document: Document, vocabulary: Vocabulary) -> None:
        self.document, self.vocabulary = document, vocabulary

    def part(self) -> Part:
        for key in self.document.data:
            if key not in KEYS:
                self.document.complain((key,), unknown("key", key, KEYS, LATER_KEYS))
        return Part(
            name=self._line("name"),
            description=self._line("description"),
            sections={name: self._section(name, cls) for name, cls in SECTIONS.items()},
            detect=self._detect(),
            respond=self._ladders("respond"),
            more=self._more(),
            order=self._order(),
            forbid=self._forbid(),
        )

    def _line(self, key: str) -> str:
        """Return a line of text that is safe to print."""
        if key not in self.document.data:
            return ""
        value = self.document.data[key]
        if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= LONGEST_LINE:
            return value
        long = isinstance(value, str) and len(value) > LONGEST_LINE
        told = f"{len(value)} characters" if long else found(value)
        self.document.complain((key,), f"expected one line of at most {LONGEST_LINE} characters, found {told}")
        return ""

    def _order(self) -> Order | None:
        order = self.document.data.get("order")
        if order in ORDERS:
            return order  # type: ignore[no-any-return]
        if "order" in self.document.data:
            known = " or ".join(map(repr, ORDERS))
            self.document.complain(("order",), f"expected {known}, found {found(order)}")
        return None

    def _mapping(self, key: str) -> dict[str, Any]:
        """Return a section; one that is left empty is as good as left out."""
        value = self.document.data.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        meant = f". Write `context: {{kind: {value}}}`" if key == "context" and value in KINDS else ""
        self.document.complain((key,), f"expected a mapping, found {found(value)}{meant}")
        return {}

    def _section(self, name: str, cls: type) -> dict[str, Any]:
        content = dict(self._mapping(name))
        if name == "context":
            return context(self.document, (name,), content)
        return accept(self.document, (name,), content, parameters_of(cls))

    def _detect(self) -> dict[str, dict[str, Any] | None]:
        return {name: self._thresholds(name, value) for name, value in self._known("detect")}

    def _thresholds(self, name: str, value: Any) -> dict[str, Any] | None:  # noqa: ANN401 - plain data
        path = ("detect", name)
        if value is None:
            return None
        if isinstance(value, dict):
            return accept(self.document, path, value, parameters_of(self.vocabulary.detectors[name]))
        self.document.complain(path, f"expected a mapping of thresholds, or null (switched off), found {found(value)}")
        return None

    def _ladders(self, key: str) -> dict[str, tuple[Rung, ...]]:
        document, words = self.document, self.vocabulary
        return {name: ladder(document, (key, name), value, words) for name, value in self._known(key)}

    def _more(self) -> dict[str, tuple[Rung, ...]]:
        """Return the rungs to put before inherited ones; complain where none can be inherited."""
        document = self.document
        if document.data.get(MORE) is not None and document.data.get("extends") is None:
            document.complain((MORE,), f"{MORE} adds to ladders that are inherited, and nothing is: add `extends`")
        replaced = document.data.get("respond")
        added = self._ladders(MORE)
        for name in added:
            if isinstance(replaced, dict) and name in replaced:
                document.complain((MORE, name), "`respond` replaces this ladder here: write these rungs there")
        return added

    def _known(self, key: str) -> list[tuple[str, Any]]:
        """Return the entries of a section whose keys are pathologies that can be detected."""
        entries = self._mapping(key)
        refusals = {name: self.vocabulary.reject_pathology(name) for name in entries}
        for name, refusal in refusals.items():
            if refusal is not None:
                self.document.complain((key, name), refusal)
        return [(name, value) for name, value in entries.items() if refusals[name] is None]

    def _forbid(self) -> frozenset[str]:
        names = self.document.data.get("forbid")
        if names is None:
            return frozenset()
        if not isinstance(names, list):
            self.document.complain(("forbid",), f"expected a list of remedies, found {found(names)}")
            return frozenset()
        for index, name in enumerate(names):
            word = isinstance(name, str)
            refusal = self.vocabulary.reject_forbidden(name) if word else f"expected a remedy, found {found(name)}"
            if refusal is not None:
                self.document.complain(("forbid", index), refusal)
        return frozenset(name for name in names if isinstance(name, str))


def context(document: Document, path: KeyPath, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a declared context states, as the arguments of a Context; complain about what is wrong."""
    accepted: dict[str, Any] = {}
    for key, value in content.items():
        problem = _misdeclared(key, value)
        if problem is None:
            accepted |= accept(document, path, {key: value}, parameters_of(Declared))
        else:
            document.complain((*path, key), problem)
    if "frozen" in accepted:
        accepted["frozen"] = tuple(accepted["frozen"])
    return accepted


def _misdeclared(key: str, value: Any) -> str | None:  # noqa: ANN401 - plain data
    """Return what is wrong with a kind or a list of layers, where the type alone does not tell it well."""
    if key == "kind" and isinstance(value, str) and value not in KINDS:
        return unknown("kind", value, KINDS)
    if key == "frozen" and isinstance(value, list):
        odd = [item for item in value if not isinstance(item, str) or not item.strip()]
        return f"expected names or patterns of layers, found {found(odd[0])}" if odd else None
    return None
