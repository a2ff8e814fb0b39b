"""A shipped name, a file or a mapping -> Policy, or one PolicyError with all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from supervisor.errors import PolicyError, UsageError
from supervisor.policy.check import Part, check, context
from supervisor.policy.context import KINDS
from supervisor.policy.document import Document, KeyPath, read, read_file
from supervisor.policy.extends import as_part, lineage, merge
from supervisor.policy.fields import found
from supervisor.policy.model import Policy
from supervisor.policy.nodes import MAX_DEPTH
from supervisor.policy.shipped import locate, shipped, shipped_text
from supervisor.policy.vocabulary import Vocabulary
from supervisor.policy.writer import to_dict, to_yaml

__all__ = ["changed", "from_dict", "in_context", "load", "loads", "shipped", "shipped_text", "to_dict", "to_yaml"]

_ALL: Final = Vocabulary()
_WORDS: Final = ", ".join(map(repr, KINDS))


def load(name_or_path: str | Path, vocabulary: Vocabulary = _ALL) -> Policy:
    """Return a shipped policy by name, or that of a YAML file. A shipped name wins over a file of that name.

    Raises PolicyError with every problem of the file and of what it extends, in the order of their places.
    """
    path = locate(name_or_path)
    shown = str(path) if path.is_absolute() else str(name_or_path)
    return _resolve(read_file(path, shown), path, vocabulary)


def loads(text: str, shown: str = "policy", vocabulary: Vocabulary = _ALL) -> Policy:
    """Return the policy that `text` states; what it extends by path is looked up in the working directory."""
    return _resolve(read(text, shown), None, vocabulary)


def from_dict(content: Mapping[str, Any], vocabulary: Vocabulary = _ALL) -> Policy:
    """Return the policy of a mapping as a YAML file would hold it; `name` may be left out."""
    document = Document("policy")
    document.data = {"name": "unnamed", **_plain(content, (), document)}
    return _resolve(document, None, vocabulary)


def in_context(policy: Policy, given: Any) -> Policy:  # noqa: ANN401 - whatever a user passed
    """Return the policy with what `given` declares: a kind, or a mapping of `kind`, `frozen` and `warmup`.

    What it states wins over the policy's own context, key by key. Raises UsageError, which touches nothing.
    """
    content = {"kind": given} if isinstance(given, str) else given
    if not isinstance(content, Mapping):
        message = f"context: expected {_WORDS}, or a mapping of kind, frozen and warmup, found {found(given)}"
        raise UsageError(message)
    document = Document("")
    stated = context(document, ("context",), _plain(content, ("context",), document))
    if document.problems:
        raise UsageError("\n".join(problem.removeprefix(": ") for problem in document.problems))
    return replace(policy, context=replace(policy.context, **stated))


def changed(policy: Policy, changes: Mapping[str, Any], vocabulary: Vocabulary = _ALL) -> Policy:
    """Return what a file with `changes` would be that extends `policy`; name and description stay unless given.

    Raises PolicyError with every problem of `changes`.
    """
    document = Document("with_")
    document.data = _plain(changes, (), document)
    if "extends" in document.data:
        document.complain(("extends",), "a loaded policy extends nothing more: load the other one, and change that")
    document.data["extends"] = policy.name
    own = check(document, vocabulary)
    if document.problems:
        raise PolicyError(*document.problems)
    own.name, own.description = own.name or policy.name, own.description or policy.description
    made = merge([as_part(policy), own])
    learned = {name: turns for name, turns in policy.learned.items() if made.respond[name] == policy.respond[name]}
    return replace(made, learned=learned)


def _resolve(document: Document, file: Path | None, vocabulary: Vocabulary) -> Policy:
    if "name" not in document.data and ("name",) not in document.places:
        document.complain((), "the policy needs a name: `name: my-policy`")
    documents: list[Document] = []
    parts: list[Part] = []
    for ancestor in lineage(document, file):
        documents.append(ancestor)
        parts.append(check(ancestor, vocabulary))
    problems = [problem for one in documents for problem in one.problems]
    if problems:
        raise PolicyError(*problems)
    return merge(parts[::-1])


def _plain(value: Any, path: KeyPath, document: Document) -> Any:  # noqa: ANN401 - anything in, plain data out
    """Return `value` as what YAML can hold; complain about what it cannot."""
    if len(path) > MAX_DEPTH:
        document.complain(path[:3], f"nested deeper than {MAX_DEPTH} levels")
        return None
    if isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str)]
        if odd:
            document.complain(path, f"a key must be a word, found {found(odd[0])}")
        return {key: _plain(item, (*path, key), document) for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [_plain(item, (*path, index), document) for index, item in enumerate(items)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    document.complain(path, f"expected what YAML can hold, found {type(value).__name__}")
    return None
