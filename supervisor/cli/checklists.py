"""`supervise check` and `supervise diagnose`: a training before its first step, and a model as it stands."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it, so that --help answers within 0.3 s

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.loading import load_checkpoint, load_training
from supervisor.cli.terminal import as_json_option, print_json
from supervisor.errors import UsageError

if TYPE_CHECKING:
    from supervisor.checklists import Checklist
    from supervisor.entry import Training

_FAILED = 1  # exit code where the first pass did not go through


@click.command()
@click.argument("where", metavar="MODULE:FUNCTION")
@click.option("--fix", is_flag=True, help="Also tell what supervisor.initialize_ would do, and where to call it.")
@as_json_option
def check(where: str, *, fix: bool, as_json: bool) -> None:
    """Go through the initialization and training checklists on the first batch, before training.

    FUNCTION takes no arguments and returns a supervisor.Training. Nothing is trained or changed. Warnings are advice:
    the exit code is 1 only where the first forward and backward pass fails.

    Example: supervise check my_training:build
    """
    from supervisor.checklists import preflight

    training = load_training(where)
    assert training.model is not None
    assert training.data is not None
    batch = next(iter(training.data), None)
    if batch is None:
        message = f"{where}: data is empty, there is no first batch. Let the function return a Training with batches"
        raise UsageError(message)
    policy = training.policy
    result = preflight(
        training.model, training.optimizers, batch, training.train_fn, scheduler=training.scheduler, policy=policy
    )
    fixes = _fixes(training, batch) if fix else None
    if as_json:
        print_json({**result.to_dict(), **({"fix": fixes} if fix else {})})
    else:
        _print_checklist(result)
        for line in [] if fixes is None else _told(where, fixes):
            click.echo(line)
    if not result.started:
        sys.exit(_FAILED)


def _fixes(training: Training, batch: object) -> list[dict[str, Any]]:
    """Return what `initialize_` would do to each parameter; it is done to the model of this process alone."""
    from supervisor.checklists import initialize_

    assert training.model is not None
    try:
        done = initialize_(training.model, lambda: training.train_fn(batch))
    except Exception:  # noqa: BLE001 - a train step that fails is an item of the list
        done = initialize_(training.model)
    facts: list[dict[str, Any]] = done.to_dict()["done"]
    return facts


def _told(where: str, fixes: list[dict[str, Any]]) -> list[str]:
    width = max((len(fix["parameter"]) for fix in fixes), default=0)
    lines = [f"  {f['parameter']:{width}}  {f['method']}: {f['before']:.3g} -> {f['after']:.3g}" for f in fixes]
    call = f"Call supervisor.initialize_(model) in {where.replace(':', '.')}, where the model has just been built:"
    return ["", call, *lines]


def _print_checklist(result: Checklist) -> None:
    """Print the list as wide as the terminal, warnings standing out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    width = max(len(item.name) for item in result.items)
    styles = {"passed": ("ok", "green"), "warned": ("warn", "bold yellow"), "not applicable": ("-", "dim")}
    for topic in dict.fromkeys(item.topic for item in result.items):
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=4)
        table.add_column(min_width=width)
        table.add_column()
        for item in (item for item in result.items if item.topic == topic):
            mark, style = styles[item.status]
            plain = "dim" if item.status == "not applicable" else ""
            table.add_row(Text(mark, style), Text(item.name, plain), Text(item.reason, plain))
            if item.advice:
                table.add_row("", "", Text(f"-> {item.advice}", "cyan"))
        console.print(Text(topic, "bold"), table, "", sep="\n")
    counts = [f"{len(result.of('passed'))} passed", f"{len(result.warnings)} warned"]
    console.print(", ".join([*counts, f"{len(result.of('not applicable'))} not applicable"]))


@click.command()
@click.argument("where", metavar="MODULE:FUNCTION")
@click.option(
    "--checkpoint", type=click.Path(dir_okay=False, path_type=Path), help="A state_dict to load into the model first."
)
@click.option("--batches", type=click.IntRange(1), default=8, show_default=True, help="How many batches to look at.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="An image file to draw into.")
@as_json_option
def diagnose(where: str, *, checkpoint: Path | None, batches: int, plot: Path | None, as_json: bool) -> None:
    """Examine a model layer by layer over a few batches, as it stands, changing nothing.

    FUNCTION takes no arguments and returns a supervisor.Training.

    Example: supervise diagnose my_training:build --checkpoint best.pt --plot layers.png
    """
    from supervisor.checklists import diagnose as examine

    training = load_training(where)
    assert training.model is not None
    if checkpoint is not None:
        load_checkpoint(training.model, checkpoint)
    result = examine(training.model, training.optimizers, training.data, training.train_fn, batches=batches)
    drawn = result.plot(plot) if plot is not None else None
    if as_json:
        print_json({**result.to_dict(), **({"plot": str(drawn)} if drawn else {})})
        return
    click.echo(result.summary())
    if drawn is not None:
        click.echo(f"\nThe layers as a picture: {drawn}")
