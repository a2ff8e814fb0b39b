"""`supervise clinic`: how well faults are seen and treated, and healthy trainings left alone."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it, so that --help answers within 0.3 s

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.cli.terminal import as_json_option, print_json, print_table

if TYPE_CHECKING:
    from supervisor.clinic.case import Case
    from supervisor.clinic.rows import Row
    from supervisor.clinic.runs import Job


@click.command()
@click.option("--half", type=click.Choice(["development", "held-out", "both"]), default="both", show_default=True)
@click.option("--only", multiple=True, metavar="PATTERN", help="Names, pathologies or families; 'healthy': controls.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of each case.")
@click.option("--quick", "few", is_flag=True, help="A fixed few of every kind, in at most 2 minutes.")
@click.option("--baselines", is_flag=True, help="Compare with doing nothing, and with clip 1.0 + skip of NaN.")
@click.option("--against", multiple=True, metavar="MODULE:FUNCTION", help="Compare with one more way of repair.")
@click.option("--policy", default="default", show_default=True, help="A shipped policy's name, or a YAML file.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), show_default="all cores")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="A folder to keep the records in.")
@click.option("--cases", "each", is_flag=True, help="Show every case. Done anyway where --only is given.")
@click.option("--curable", "by_hand", is_flag=True, help="Instead, try remedies by hand until one cures, and note it.")
@as_json_option
def clinic(
    half: str, only: tuple[str, ...], seeds: int, against: tuple[str, ...], policy: str, jobs: int,
    keep: Path | None, *, few: bool, baselines: bool, each: bool, by_hand: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train the built-in faulty and healthy cases; a table of detected, repaired, false alarms and cost.

    Example: supervise clinic --quick
    """
    from supervisor.clinic.cases import all_cases, cases_of, quick, select
    from supervisor.clinic.run import plan
    from supervisor.policy import Policy

    Policy.load(policy)  # mistakes are told now, not once for every run
    _check_arms(against)
    cases = select(all_cases() if half == "both" else cases_of(half), only)
    cases = quick(cases) if few else cases
    if by_hand:
        _by_hand([case for case in cases if not case.healthy], jobs, as_json=as_json)
        return
    with _folder(keep) as folder:
        planned = plan(cases, seeds, policy, folder, baselines=baselines, arms=against)
        rows = _run(cases, planned, jobs)
    if as_json:
        _print_facts(rows)
    else:
        _print(rows, baselines=baselines or bool(against), each=each or bool(only))
    if len(rows) < seeds * len(cases):
        click.echo(f"interrupted: {len(rows)} of {seeds * len(cases)} runs are complete", err=True)
        sys.exit(1)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give a folder for the records: one to keep, or one that goes with the block."""
    if keep is not None:
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="clinic-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _check_arms(against: Sequence[str]) -> None:
    """Import what the runs are to be compared with, from the current folder too; UsageError where it is not there."""
    if not against:
        return
    from supervisor.clinic.runs import arm

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # the processes that do the runs take the path over
    for name in against:
        arm(name)


def _run(cases: Sequence[Case], jobs: Sequence[Job], workers: int) -> list[Row]:
    """Do all runs and return their rows in order; after Ctrl-C those that are complete."""
    from supervisor.clinic.run import rows

    complete: list[Row] = []
    try:
        with _bar(len(jobs)) as done:
            complete.extend(rows(cases, jobs, workers, lambda job: done(job.case)))
    except KeyboardInterrupt:
        pass  # the bar stands where it was left
    places = {case.name: place for place, case in enumerate(cases)}
    return sorted(complete, key=lambda row: (places[row.case.name], row.seed))


@contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on a terminal; give a function that moves it on by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("clinic"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    text = TextColumn("{task.description}")
    with Progress(*columns, text, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda name: progress.update(task, advance=1, description=name)


def _print(rows: Sequence[Row], *, baselines: bool, each: bool) -> None:
    from supervisor.clinic.curable import read
    from supervisor.clinic.figures import Spared, treated
    from supervisor.clinic.table import baseline_table, case_line, control_table, faulty_table, remarks

    curable = read()
    for row in rows if each else ():
        click.echo(case_line(row))
    halves = list(dict.fromkeys(row.half for row in rows))
    for half in halves:
        if lines := treated([row for row in rows if row.half == half], curable):
            click.echo(f"\nFaulty trainings, {half} half; shares with 95 % intervals, latency 50/90 in % of the run:\n")
            print_table(*faulty_table(lines))
            if baselines:
                click.echo()
                print_table(*baseline_table(lines))
    controls = {half: [row for row in rows if row.half == half and row.case.healthy] for half in halves}
    if any(controls.values()):
        click.echo()
        print_table(*control_table({half: Spared.of(chosen) for half, chosen in controls.items() if chosen}))
    click.echo("\n".join(["", *remarks(rows)]))


def _print_facts(rows: Sequence[Row]) -> None:
    from supervisor.clinic.curable import read
    from supervisor.clinic.figures import summary

    curable = read()
    print_json({"summary": summary(rows, curable), "rows": [row.to_dict() for row in rows]})


def _by_hand(cases: Sequence[Case], workers: int, *, as_json: bool) -> None:
    """Try by hand, on every case that nothing has cured yet, what is left to try; note each as soon as it is done."""
    from supervisor.clinic.curable import PLACE, examine, jobs_for, read

    jobs = jobs_for(cases)
    try:
        with _bar(len(jobs)) as done:
            examine(jobs, workers, done)
    except KeyboardInterrupt:
        click.echo("interrupted: the cases that are done are noted, call it again for the rest", err=True)
        sys.exit(1)
    known = {case.name: list(read().get(case.name, ())) for case in cases}
    if as_json:
        print_json(known)
        return
    print_table(("case", "cured by hand by"), [(name, ", ".join(cures) or "nothing") for name, cures in known.items()])
    click.echo(f"{sum(map(bool, known.values()))} of {len(known)} can be cured: {PLACE}")
