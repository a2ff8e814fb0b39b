"""The score table as a person reads it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from supervisor.clinic.figures import Share, Spared, Treated
from supervisor.clinic.rows import Row
from supervisor.clinic.runs import Kind

Cells = tuple[str, ...]
Table = tuple[Cells, list[Cells]]  # header, rows


def faulty_table(lines: Sequence[Treated]) -> Table:
    """Return the table of faulty cases as text: shares and their intervals in percent, latency 50 / 90 likewise."""
    header: Cells = ("pathology", "detected", "latency %", "cause", "repaired", "of curable")
    rows: list[Cells] = []
    for line in lines:
        latency = "/".join("-" if math.isinf(value) else f"{100 * value:.1f}" for value in line.latency)
        shares = (line.cause.percent, line.repaired.percent, str(line.of_curable))
        rows.append((line.pathology, str(line.detected), latency, *shares))
    return header, rows


TITLES: Final = {"bare": "nothing", "clipped": "clip + skip"}


def baseline_table(lines: Sequence[Treated]) -> Table:
    """Return how many faulty cases each way of treatment repairs, and its cost: passes a step, of the repaired."""
    kinds = list(lines[-1].arms)
    header: Cells = ("repaired by", *map(title, kinds))
    rows: list[Cells] = [(line.pathology, *(_hits(line.arms[kind].repaired) for kind in kinds)) for line in lines]
    total = [lines[-1].arms[kind] for kind in kinds]
    rows.append(("all, in percent", *(arm.repaired.percent for arm in total)))
    rows.append(("of curable", *(arm.of_curable.percent for arm in total)))
    rows.append(("cost, median", *(_times(arm.cost_median) for arm in total)))
    rows.append(("cost, mean", *(_times(arm.cost_mean) for arm in total)))
    return header, rows


def title(kind: Kind) -> str:
    """Return what a way of treatment is called in a table: an arm by its function."""
    return TITLES.get(kind, kind.partition(":")[2].replace("_", " ") or kind)


def _hits(share: Share) -> str:
    return f"{share.hits}/{share.of}" if share.of else "-"


def _times(cost: float) -> str:
    return "-" if math.isnan(cost) else f"x {cost:.2f}"


def control_table(lines: Mapping[str, Spared]) -> Table:
    """Return the table of healthy controls as text, one line a half."""
    header: Cells = ("controls", "with a finding", "with an intervention", "time a tick")
    rows: list[Cells] = [
        (half, str(line.alarmed), str(line.treated), f"x {line.slowdown:.2f}") for half, line in lines.items()
    ]
    return header, rows


def case_line(row: Row) -> str:
    """Return what was found in one run, what was done, and what it brought, as a sentence."""
    found = [f"{f.pathology} at tick {f.tick} ({f.cause})" for f in row.supervised.findings[:4]]
    onset = f" (onset {row.case.onset})" if row.case.onset > 1 else ""
    parts = [f"{row.case.name}, seed {row.seed}{onset}: found {', '.join(found) or 'nothing'}"]
    if row.supervised.interventions:
        parts.append(f"did {', '.join(dict.fromkeys(row.supervised.interventions))}")
    if (share := row.regained("supervised")) is not None:
        parts.append(f"regained {_percent(share)}, bare {_percent(row.regained('bare'))}")
    if row.slowdown is not None:
        parts.append(f"time x {row.slowdown:.2f}")
    return "; ".join(parts)


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return what the tables do not say: non-finite ticks seen late, the cost, early findings, flaws, failures."""
    said = []
    lost = [row for row in rows if row.case.pathology == "non_finite"]
    if lost:
        said.append(f"non_finite in the same tick: {Share.count(row.latency_ticks == 0 for row in lost)}")
    passes = sorted(row.passes for row in rows if row.passes is not None and row.repaired("supervised"))
    if passes:
        ninth = passes[math.ceil(0.9 * len(passes)) - 1]
        said.append(f"passes for each step, of the repaired: median {statistics.median(passes):.2f}, 90 % {ninth:.2f}")
    early = [row for row in rows if row.false_alarms and not row.case.healthy]
    said += [f"{row.case.name}, seed {row.seed}: a finding before its onset" for row in early]
    for row in rows:
        said += [f"{row.case.name}, seed {row.seed}: {what}" for what in filter(None, (row.error, *row.flaws))]
    return said


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * max(-1.0, share):.0f} %"
