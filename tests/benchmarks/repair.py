"""How many faulty trainings are repaired, and at what cost, by the supervisor and by others. Recorded, not asserted.

    python tests/benchmarks/repair.py [--half held-out] [--only PATTERN ...] [--seeds 1] [--jobs N] [--json] [--write]

Every way of treatment is judged alike and in the same run: a training is repaired if it ends with 95 % of its healthy
twin's lead over chance, on data that nobody trained on. The cost is all forward-backward passes, those of trials, of
rolled-back ticks and of retrainings included, for each step asked for.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parents[2])]  # a script finds the repository only by that

from supervisor.clinic.cases import all_cases, cases_of, select  # noqa: E402
from supervisor.clinic.curable import read  # noqa: E402
from supervisor.clinic.figures import Share, Treated, summary, treated  # noqa: E402
from supervisor.clinic.rows import Row  # noqa: E402
from supervisor.clinic.run import plan, rows  # noqa: E402
from supervisor.clinic.runs import Kind  # noqa: E402
from tests.benchmarks.machine import machine  # noqa: E402

RESULTS: Final = Path(__file__).with_name("REPAIR.md")
ARMS: Final = ("tests.benchmarks.random_remedy:at_random", "tests.benchmarks.autotrainer:autotrainer")
TITLES: Final = {
    "supervised": "the supervisor, default policy",
    "bare": "doing nothing",
    "clipped": "clip 1.0, skip what is not finite",
    ARMS[0]: "a random remedy",
    ARMS[1]: "AutoTrainer's procedure, re-implemented",
}


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=["development", "held-out", "both"], default="held-out")
    parser.add_argument("--only", nargs="*", default=[], help="names, pathologies or families of cases")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--policy", default="default")
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    return parser.parse_args()


def run(asked: argparse.Namespace) -> list[Row]:
    """Train every faulty case of the half in every way; tell on stderr how far it is."""
    held = all_cases() if asked.half == "both" else cases_of(asked.half)
    cases = [case for case in select(held, asked.only) if not case.healthy]
    done: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="repair-", ignore_cleanup_errors=True) as folder:
        jobs = plan(cases, asked.seeds, asked.policy, Path(folder), baselines=True, arms=ARMS)
        for row in rows(cases, jobs, asked.jobs):
            done.append(row)
            print(f"{len(done)} of {asked.seeds * len(cases)}: {row.case.name}", row.error, file=sys.stderr)
    return done


def page(done: Sequence[Row], seeds: int) -> str:
    """Return the tables as Markdown."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items() if name != "threads")
    lines = ["# What is repaired, and at what cost", "", *_EXPLAINED, "", f"Seeds of each case: {seeds}. {facts}.", ""]
    curable = read()
    for half in dict.fromkeys(row.half for row in done):
        figures = treated([row for row in done if row.half == half], curable)
        lines += [f"## The {half} half", "", *_totals(figures[-1]), "", *_by_pathology(figures), ""]
    return "\n".join(lines)


def _totals(total: Treated) -> list[str]:
    header = ["", "repaired of all", "of curable", "passes a step, of the repaired: median", "mean", "mean of all"]
    lines = [_line(header), _line(["---"] * len(header))]
    for kind, arm in total.arms.items():
        spent = (arm.cost_median, arm.cost_mean, arm.cost_mean_of_all)
        cost = ("-" if math.isnan(value) else f"{value:.2f}" for value in spent)
        lines.append(_line([_title(kind), _told(arm.repaired), _told(arm.of_curable), *cost]))
    return lines


def _told(share: Share) -> str:
    low, high = (round(100 * bound) for bound in share.interval)
    return f"{share.hits} of {share.of}: {share.hits / share.of:.0%} ({low} to {high} %)" if share.of else "-"


def _by_pathology(figures: Sequence[Treated]) -> list[str]:
    kinds = list(figures[-1].arms)
    lines = [_line(["repaired", *map(_title, kinds)]), _line(["---"] * (1 + len(kinds)))]
    for line in figures:
        shares = [line.arms[kind].repaired for kind in kinds]
        lines.append(_line([line.pathology, *(f"{share.hits} of {share.of}" for share in shares)]))
    return lines


def _title(kind: Kind) -> str:
    return TITLES.get(kind, kind)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_EXPLAINED: Final = (
    "A training is repaired if it ends with 95 % of its healthy twin's lead over chance, on data that nobody trained",
    "on; percentages are followed by their Wilson 95 % interval. Curable is what some remedy, applied by hand by",
    "somebody who knows fault and onset, repairs (`supervise clinic --curable`). A pass is one forward and backward",
    "pass; those of trials, of rolled-back ticks and of retrainings count. The random remedy and AutoTrainer's",
    "procedure (Zhang et al., ICSE 2021) are re-implementations from descriptions, told in `random_remedy.py` and",
    "`autotrainer.py`; both see with this project's detectors. Made by `python tests/benchmarks/repair.py --write`.",
)


def main() -> None:
    """Run, and print or write the tables."""
    asked = _asked()
    done = run(asked)
    if asked.json:
        facts: dict[str, Any] = {"summary": summary(done, read()), "rows": [row.to_dict() for row in done]}
        print(json.dumps(facts, indent=2, allow_nan=False))
    else:
        print(page(done, asked.seeds))
    if asked.write:
        RESULTS.write_text(page(done, asked.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
