"""`extends`: which documents a policy is made of, and how the later ones overlay the earlier."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from supervisor.errors import PolicyError
from supervisor.policy import shipped
from supervisor.policy.check import SECTIONS, Part
from supervisor.policy.context import Context
from supervisor.policy.document import Document, read_file
from supervisor.policy.fields import found
from supervisor.policy.model import Limits, Observe, Policy, Rung, Verify


def lineage(document: Document, file: Path | None) -> Iterator[Document]:
    """Yield `document`, then what it extends, up to the root.

    `file` is where the document was read; None: paths are relative to the working directory. An `extends` that
    leads nowhere, or back, is noted in the document that holds it, and ends the line.
    """
    seen = [] if file is None else [file]
    while True:
        yield document
        parent = _parent(document, file)
        if parent is None:
            return
        if any(parent.resolve() == path.resolve() for path in seen):
            chain = " -> ".join(path.name for path in [*seen, parent])
            document.complain(("extends",), f"a cycle: {chain}")
            return
        try:
            document, file = read_file(parent, str(parent)), parent
        except PolicyError as error:
            document.complain(("extends",), str(error))
            return
        seen.append(parent)


def _parent(document: Document, file: Path | None) -> Path | None:
    name = document.data.get("extends")
    if name is None:
        return None
    if not isinstance(name, str) or not name or not name.isprintable():
        document.complain(("extends",), f"expected a shipped policy's name or a relative path, found {found(name)}")
        return None
    if not shipped.looks_like_path(name):
        if name in shipped.names():
            return shipped.shipped_path(name)
        document.complain(("extends",), shipped.no_such(name))
        return None
    folder = Path() if file is None else file.parent
    if (folder / name).is_file():
        return folder / name
    document.complain(("extends",), f"no file {str(folder / name)!r}")
    return None


def merge(parts: Sequence[Part]) -> Policy:
    """Return the policy of `parts`, the root first, the file itself last.

    Thresholds and sections are inherited key by key, ladders pathology by pathology, with the rungs of `+respond`
    before them, so that the special case has its turn before the general one; what is forbidden stays so.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    detect: dict[str, dict[str, Any] | None] = {}
    respond: dict[str, tuple[Rung, ...]] = {}
    for part in parts:
        for name, content in part.sections.items():
            sections[name] |= content
        for name, thresholds in part.detect.items():
            detect[name] = None if thresholds is None else {**(detect.get(name) or {}), **thresholds}
        respond |= part.respond
        respond |= {name: (*rungs, *respond.get(name, ())) for name, rungs in part.more.items()}
    return Policy(
        name=parts[-1].name,
        description=parts[-1].description,
        observe=Observe(**sections["observe"]),
        detect=detect,
        respond=respond,
        verify=Verify(**sections["verify"]),
        limits=Limits(**sections["limits"]),
        context=Context(**sections["context"]),
        order=next((part.order for part in reversed(parts) if part.order is not None), "policy"),
        forbid=frozenset().union(*(part.forbid for part in parts)),
    )


def as_part(policy: Policy) -> Part:
    """Return all that a policy states, for others to overlay it."""
    return Part(
        name=policy.name,
        description=policy.description,
        sections={name: _stated(getattr(policy, name)) for name in SECTIONS},
        detect={name: None if values is None else dict(values) for name, values in policy.detect.items()},
        respond=dict(policy.respond),
        order=policy.order,
        forbid=policy.forbid,
    )


def _stated(section: Any) -> dict[str, Any]:  # noqa: ANN401 - a section's dataclass
    return {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
