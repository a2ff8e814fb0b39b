"""YAML text -> nodes, by PyYAML's pure Python parts and YAML 1.2's idea of a plain scalar.

Aliases are refused: a policy reads top to bottom, and a few lines of aliases can stand for gigabytes.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

MAX_DEPTH: Final = 32  # a policy needs 7

TAG: Final = "tag:yaml.org,2002:"
_CORE: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
)


class CoreResolver(BaseResolver):
    """What a plain scalar is, by YAML 1.2's core schema."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc] # PyYAML keeps it on the class


for _name, _pattern, _first in _CORE:
    CoreResolver.add_implicit_resolver(TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


class _Loader(Reader, Scanner, Parser, Composer, CoreResolver):
    """Everything of PyYAML up to the nodes; nothing is ever constructed from a tag."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        CoreResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - PyYAML's signature
        """Compose a node, unless it is an alias, has an anchor, or lies too deep."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            message = "anchors and aliases are not allowed: write it out"
            raise yaml.MarkedYAMLError(None, None, message, event.start_mark)
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def compose(text: str) -> yaml.Node | None:
    """Return the root node of the one document in `text`; None if it is empty.

    Raises MarkedYAMLError with a place, or ReaderError for a character that YAML does not allow.
    """
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    except (ValueError, OverflowError):  # of chr() and int(): PyYAML lets them through
        message = "an escape or number that stands for nothing"
        raise yaml.MarkedYAMLError(None, None, message, loader.get_mark()) from None
    return node
