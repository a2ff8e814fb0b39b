"""The figures of the clinic: how many were seen, how soon, why, repaired, and how many healthy ones were spared.

Every share comes with its Wilson 95 % confidence interval. Seeds of one case are not independent draws: with several
seeds the intervals are a little too narrow.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from supervisor.clinic.rows import Row
from supervisor.clinic.runs import Kind
from supervisor.records import PATHOLOGIES

Curable = Mapping[str, Sequence[str]]  # case: what cures it; a case that was not examined is not in it

_Z: Final = 1.959964  # of 95 %


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    @classmethod
    def count(cls, hits: Iterable[bool]) -> Share:
        """Count what is true."""
        values = list(hits)
        return cls(sum(values), len(values))

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson 95 % confidence interval (Wilson, 1927); from 0 to 1 where nothing was counted."""
        if not self.of:
            return 0.0, 1.0
        n, p = self.of, self.hits / self.of
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        reach = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def __str__(self) -> str:
        """Return "11/12 65-99": the interval in percent; "-" where nothing was counted."""
        return f"{self.hits}/{self.of} {self._range}" if self.of else "-"

    @property
    def percent(self) -> str:
        """Return "92 65-99": the share and its interval, in percent."""
        return f"{100 * self.hits / self.of:.0f} {self._range}" if self.of else "-"

    @property
    def _range(self) -> str:
        low, high = self.interval
        return f"{100 * low:.0f}-{100 * high:.0f}"

    def to_dict(self) -> dict[str, Any]:
        """Return the share as JSON types."""
        return {"hits": self.hits, "of": self.of, "interval": [round(bound, 4) for bound in self.interval]}


@dataclass(frozen=True)
class Healed:
    """What one way of treatment repaired, and its cost: passes for each step asked for, of those it repaired."""

    repaired: Share
    of_curable: Share
    cost_median: float
    cost_mean: float
    cost_mean_of_all: float  # also of those it did not repair

    @classmethod
    def of(cls, kind: Kind, rows: Sequence[Row], curable: Curable) -> Healed:
        """Work out the figures of the runs of `kind`."""
        ran = [row for row in rows if kind in row.runs]
        paid = [(row.repaired(kind), passes) for row in ran if (passes := row.runs[kind].passes) is not None]
        spent = [passes for repaired, passes in paid if repaired]
        return cls(
            repaired=Share.count(row.repaired(kind) for row in ran),
            of_curable=Share.count(row.repaired(kind) for row in ran if curable.get(row.case.name)),
            cost_median=statistics.median(spent) if spent else math.nan,
            cost_mean=statistics.mean(spent) if spent else math.nan,
            cost_mean_of_all=statistics.mean(passes for _, passes in paid) if paid else math.nan,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return _figures(self)


@dataclass(frozen=True)
class Treated:
    """The figures of faulty cases of one pathology, or of all."""

    pathology: str
    detected: Share
    same_tick: Share
    latency: tuple[float, float]  # median and 90th percentile; a missed one counts as infinite
    cause: Share
    repaired: Share
    of_curable: Share
    arms: Mapping[Kind, Healed]  # supervised first, then what it is compared with
    early: int  # findings before the onset

    @classmethod
    def of(cls, name: str, rows: Sequence[Row], curable: Curable) -> Treated:
        """Work out the figures of `rows`."""
        late = sorted(math.inf if row.latency is None else row.latency for row in rows)
        ninth = late[math.ceil(0.9 * len(late)) - 1] if late else math.nan
        return cls(
            pathology=name,
            detected=Share.count(row.first is not None for row in rows),
            same_tick=Share.count(row.latency_ticks == 0 for row in rows),
            latency=(statistics.median(late) if late else math.nan, ninth),
            cause=Share.count(row.cause_right for row in rows),
            repaired=Share.count(row.repaired("supervised") for row in rows),
            of_curable=Share.count(row.repaired("supervised") for row in rows if curable.get(row.case.name)),
            arms={kind: Healed.of(kind, rows, curable) for kind in _kinds(rows)},
            early=sum(len(row.false_alarms) for row in rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types; a latency is None where that many were missed."""
        return _figures(self)


@dataclass(frozen=True)
class Spared:
    """The figures of healthy controls."""

    alarmed: Share  # runs with a finding
    treated: Share  # runs with an intervention
    slowdown: float  # median of supervised over bare time a tick

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Spared:
        """Work out the figures of `rows`."""
        slow = [row.slowdown for row in rows if row.slowdown is not None]
        return cls(
            alarmed=Share.count(bool(row.false_alarms) for row in rows),
            treated=Share.count(bool(row.supervised.interventions) for row in rows),
            slowdown=statistics.median(slow) if slow else math.nan,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return _figures(self)


def _kinds(rows: Iterable[Row]) -> list[Kind]:
    found = dict.fromkeys(kind for row in rows for kind in row.runs if kind != "twin")
    return sorted(found, key=lambda kind: kind != "supervised")


def treated(rows: Sequence[Row], curable: Curable) -> list[Treated]:
    """Return the figures of every pathology that there are cases of, and of all together."""
    faulty = [row for row in rows if not row.case.healthy]
    by_name = {name: [row for row in faulty if row.case.pathology == name] for name in PATHOLOGIES}
    lines = [Treated.of(name, chosen, curable) for name, chosen in by_name.items() if chosen]
    return [*lines, Treated.of("all", faulty, curable)] if faulty else []


def summary(rows: Sequence[Row], curable: Curable) -> dict[str, Any]:
    """Return all figures as JSON types, by half."""
    facts: dict[str, Any] = {}
    for half in dict.fromkeys(row.half for row in rows):
        chosen = [row for row in rows if row.half == half]
        controls = [row for row in chosen if row.case.healthy]
        facts[half] = {
            "faulty": {line.pathology: line.to_dict() for line in treated(chosen, curable)},
            "controls": Spared.of(controls).to_dict() if controls else None,
        }
    return facts


def _figures(record: Any) -> dict[str, Any]:  # noqa: ANN401 - one of the records above
    facts: dict[str, Any] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, tuple):
            facts |= {f"{one.name}_median": _known(value[0]), f"{one.name}_90": _known(value[1])}
        elif isinstance(value, Mapping):
            facts[one.name] = {key: record.to_dict() for key, record in value.items()}
        else:
            facts[one.name] = value.to_dict() if isinstance(value, Share) else _known(value)
    return facts


def _known(value: Any) -> Any:  # noqa: ANN401 - a number or a word
    return None if isinstance(value, float) and not math.isfinite(value) else value
