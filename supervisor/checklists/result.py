"""What a checklist answers: one item a question, passed, warned with the figure, or not applicable and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from supervisor.records import plain

Status = Literal["passed", "warned", "not applicable"]

MARKS: Final[Mapping[str, str]] = {"passed": "ok", "warned": "WARN", "not applicable": "-"}
SHOWN: Final = 4  # names in a sentence


@dataclass(frozen=True)
class Answer:
    """What one check found. `reason` is a sentence that holds the figure."""

    status: Status
    reason: str
    advice: str = ""  # what to do about a warning
    where: tuple[str, ...] = ()  # layers, parameters, inputs
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Item(Answer):
    """An answer under the name and topic of its question."""

    name: str = ""
    topic: str = ""


@dataclass(frozen=True)
class Checklist:
    """All items of a preflight, in the order in which they are best put right."""

    items: tuple[Item, ...]
    started: bool = True  # whether the first forward and backward went through

    def __getitem__(self, name: str) -> Item:
        """Return the item called `name`."""
        for item in self.items:
            if item.name == name:
                return item
        message = f"no item {name!r}; there are {', '.join(item.name for item in self.items)}"
        raise KeyError(message)

    def of(self, status: Status) -> tuple[Item, ...]:
        """Return the items with `status`."""
        return tuple(item for item in self.items if item.status == status)

    @property
    def warnings(self) -> tuple[Item, ...]:
        """The items that were warned."""
        return self.of("warned")

    @property
    def ok(self) -> bool:
        """Whether nothing was warned."""
        return not self.warnings

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        counts = {status: len(self.of(status)) for status in ("passed", "warned", "not applicable")}
        return {"ok": self.ok, "started": self.started, "counts": counts, "items": [plain(item) for item in self.items]}

    def summary(self) -> str:
        """Return the list as text, by topic, the advice below each warning."""
        lines: list[str] = []
        width = max((len(item.name) for item in self.items), default=0)
        for topic in dict.fromkeys(item.topic for item in self.items):
            lines += [*([""] if lines else []), topic]
            for item in (item for item in self.items if item.topic == topic):
                lines.append(f"  {MARKS[item.status]:4}  {item.name:{width}}  {item.reason}")
                lines += [f"  {'':4}  {'':{width}}  -> {item.advice}"] if item.advice else []
        counts = [f"{len(self.of('passed'))} passed", f"{len(self.warnings)} warned"]
        return "\n".join([*lines, "", ", ".join([*counts, f"{len(self.of('not applicable'))} not applicable"])])

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()


Check = Callable[[Any], Answer]
"""A question to a FirstPass."""


def passed(reason: str, where: Iterable[str] = (), **figures: Any) -> Answer:  # noqa: ANN401 - plain figures
    """Return an answer that nothing is wrong."""
    return Answer("passed", reason, "", tuple(where), figures)


def warned(reason: str, advice: str, where: Iterable[str] = (), **figures: Any) -> Answer:  # noqa: ANN401
    """Return an answer that something is wrong, with what to do."""
    return Answer("warned", reason, advice, tuple(where), figures)


def inapplicable(why: str) -> Answer:
    """Return an answer that the question does not arise here."""
    return Answer("not applicable", why)


def shown(names: Iterable[str]) -> str:
    """Return the first few of `names` for a sentence."""
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
