"""YAML text -> plain data, with the place of every key, so that an error can point at it.

Values mean what YAML 1.2 says: `1e-6` is a number, `on`, `yes` and `12:30` are words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from supervisor.errors import PolicyError
from supervisor.policy.nodes import TAG, compose

KeyPath = tuple[str | int, ...]
Place = tuple[int, int]  # line and column, from 1

MAX_BYTES: Final = 256 * 1024


def dotted(path: KeyPath) -> str:
    """Return `respond.dead_units[1]` for ("respond", "dead_units", 1)."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{_printable(key)}" for key in path)
    return text.removeprefix(".")


def _printable(key: str) -> str:
    return key[:60] if key.isprintable() else ascii(key[:60])


@dataclass
class Document:
    """A mapping as its writer wrote it, and what is wrong with it so far."""

    shown: str  # the path as the user gave it
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)  # of the key, or of the item of a list
    unreadable: set[KeyPath] = field(default_factory=set)  # complained of already: they hold null
    _problems: list[tuple[Place, str]] = field(default_factory=list)

    def complain(self, path: KeyPath, message: str, place: Place | None = None) -> None:
        """Note a problem at `path`, or at `place` if it is no key's. One is enough for what cannot be read."""
        if path in self.unreadable:
            return
        place = place or self._nearest(path)
        at = f"{self.shown}:{place[0]}:{place[1]}" if place else self.shown
        self._problems.append((place or (0, 0), ": ".join(part for part in (at, dotted(path), message) if part)))

    def _nearest(self, path: KeyPath) -> Place | None:
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return None

    @property
    def problems(self) -> list[str]:
        """The problems noted, in the order of their places."""
        return [message for _, message in sorted(self._problems, key=lambda problem: problem[0])]


def read_file(path: Path, shown: str) -> Document:
    """Return the document in a file. Raises PolicyError if it cannot be read, or is no YAML mapping."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        message = f"{shown}: cannot read the policy: {getattr(error, 'strerror', error)}"
        raise PolicyError(message) from None
    try:
        return read(content.decode("utf-8-sig"), shown)
    except UnicodeDecodeError as error:
        message = f"{shown}: not UTF-8 text (byte {error.start}). Save it as UTF-8."
        raise PolicyError(message) from None


def read(text: str, shown: str) -> Document:
    """Return the document in `text`; `shown` is what errors call it.

    Raises PolicyError where the text cannot be read on: a syntax error, an alias, no mapping at the top, too large
    or too deep. Everything else (duplicate keys, tags) is noted in the document's problems.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        message = f"{shown}: larger than {MAX_BYTES // 1024} kB: that is no policy"
        raise PolicyError(message)
    node = _root(text, shown)
    if not isinstance(node, yaml.MappingNode):
        message = f"{shown}:1:1: expected a mapping (`name: ...`), found {_noun(node)}"
        raise PolicyError(message)
    document = Document(shown, places={(): _place(node)})
    document.data = _value(node, (), document)
    return document


def _root(text: str, shown: str) -> yaml.Node | None:
    try:
        node = compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        because = ", ".join(part for part in (error.problem, error.context) if part)
        message = f"{shown}{at}: not readable as YAML: {because}"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        character = ascii(text[error.position])
        message = f"{shown}:{line}:{column}: not readable as YAML: character {character} is not allowed"
    else:
        return node
    raise PolicyError(message)


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _noun(node: yaml.Node | None) -> str:
    nouns = {yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value", type(None): "nothing"}
    return nouns.get(type(node), "something else")


def _value(node: yaml.Node, path: KeyPath, document: Document) -> Any:  # noqa: ANN401 - plain data of any shape
    if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
        return {key: _value(child, (*path, key), document) for key, child in _entries(node, path, document)}
    if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
        document.places |= {(*path, index): _place(child) for index, child in enumerate(node.value)}
        return [_value(child, (*path, index), document) for index, child in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        try:
            return _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            document.complain(path, f"cannot be read as {node.tag.removeprefix(TAG)}: {node.value[:40]!r}")
    else:
        document.complain(path, f"tags are not allowed, found {node.tag[:60]!r}")
    document.unreadable.add(path)
    return None


def _entries(node: yaml.MappingNode, path: KeyPath, document: Document) -> Iterator[tuple[str, yaml.Node]]:
    for key, child in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != TAG + "str":
            document.complain(path, "a key must be a word", _place(key))
        elif key.value == "<<":
            document.complain(path, "merge keys (<<) are not allowed: write it out, or use `extends`", _place(key))
        elif (*path, key.value) in document.places:
            first = document.places[*path, key.value][0]
            message = f"duplicate key on line {_place(key)[0]}, first given on line {first}"
            document.complain((*path, key.value), message, _place(key))
        else:
            document.places[*path, key.value] = _place(key)
            yield key.value, child


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))


def _string(text: str) -> str:
    text.encode()  # a lone surrogate, from an escape, could never be written again
    return text


_SCALARS: Final[dict[str, Any]] = {
    TAG + "str": _string,
    TAG + "int": _integer,
    TAG + "float": _float,
    TAG + "bool": lambda text: {"true": True, "false": False}[text.lower()],
    TAG + "null": lambda _: None,
}
