"""A commented starting file: everything that is in force stands there, commented out, ready to be changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Final

from supervisor.policy.context import KINDS
from supervisor.policy.fields import Parameter, parameters_of
from supervisor.policy.model import Limits, Observe, Policy, Verify
from supervisor.policy.vocabulary import Vocabulary
from supervisor.policy.wording import braced, either, inline
from supervisor.policy.writer import item

_ALL: Final = Vocabulary()
_COLUMN: Final = 46  # where the comments behind values begin


def starting_file(name: str, extends: str, parent: Policy, vocabulary: Vocabulary = _ALL) -> str:
    """Return the text of a policy called `name` that extends `parent`, to be found under `extends` from the file.

    Lines that begin with `# ` are prose. Those that begin with `#` alone are settings: with all of them uncommented
    the policy still does what `parent` does.
    """
    parts = (
        _head(name, extends),
        _context(parent),
        _section("What is measured, and how often.", "observe", Observe, parent.observe),
        _detect(parent, vocabulary),
        _respond(parent),
        [*_prose("Of the rungs: policy, or learned (as outcomes of earlier runs suggest)."), f"#order: {parent.order}"],
        _section("How a rung is proven.", "verify", Verify, parent.verify),
        _section("Bounds on the whole run.", "limits", Limits, parent.limits),
        _forbid(parent),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(name: str, extends: str) -> Iterator[str]:
    yield "# yaml-language-server: $schema=policy.schema.json"
    yield f"name: {inline(name)}"
    yield "description: Say here in a line what it is for."
    yield f"extends: {inline(extends)}"
    yield ""
    yield from _prose(
        f"What is left out is inherited from {extends}. Below stands all that it does: take the # away from what you",
        "want to change, together with the lines above it that are less indented, and leave the rest as it is.",
    )


def _context(parent: Policy) -> Iterator[str]:
    yield from _prose("What is normal here, where figures alone cannot tell.")
    declared = parent.context
    yield "#context:"
    yield _line("  ", "kind", declared.kind, either(KINDS))
    yield _line("  ", "frozen", list(declared.frozen), "names or patterns of layers meant to stand still")
    yield _line("  ", "warmup", declared.warmup, "steps before plateau and instability are judged")


def _section(told: str, name: str, cls: type, values: Any) -> Iterator[str]:  # noqa: ANN401 - a section's dataclass
    yield from _prose(told)
    yield f"#{name}:"
    yield from _values("  ", dataclasses.asdict(values), parameters_of(cls))


def _detect(parent: Policy, vocabulary: Vocabulary) -> Iterator[str]:
    yield from _prose("From when on a pathology is seen. `null` instead of the thresholds switches one off.")
    yield "#detect:"
    for name in vocabulary.detectors.names():
        stated, known = parent.detect.get(name, {}), parameters_of(vocabulary.detectors[name])
        if stated is None or not known:
            yield f"#  {name}: {'null' if stated is None else '{}'}"
            continue
        yield f"#  {name}:"
        yield from _values("    ", {key: stated.get(key, one.default) for key, one in known.items()}, known)


def _respond(parent: Policy) -> Iterator[str]:
    yield from _prose(
        "What is done, rung by rung. A ladder under `respond` replaces the inherited one; rungs under `+respond` are",
        "put before it: `+respond: {dead_units: [reinit_dead_units: {where: 'encoder.*'}]}`.",
    )
    yield "#respond:"
    for name, ladder in parent.respond.items():
        yield f"#  {name}:{'' if ladder else ' []'}"
        yield from (f"#    - {inline(item(rung))}" for rung in ladder)


def _forbid(parent: Policy) -> Iterator[str]:
    yield from _prose("Remedies that must never be used here, such as [insert_norm]; what is forbidden above stays so.")
    yield f"#forbid: {inline(sorted(parent.forbid))}"


def _values(indent: str, values: dict[str, Any], known: dict[str, Parameter]) -> Iterator[str]:
    for key, value in values.items():
        yield _line(indent, key, value, known[key].description)


def _line(indent: str, key: str, value: Any, meaning: str) -> str:  # noqa: ANN401 - plain data
    return f"{f'#{indent}{key}: {braced(value)}':<{_COLUMN}}  # {meaning}"


def _prose(*lines: str) -> Iterable[str]:
    return (f"# {line}" for line in lines)
