"""`supervise policy explain` and `diff`: what a policy does when, and what another does otherwise."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it, so that --help answers within 0.3 s

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from supervisor.cli.terminal import as_json_option, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from supervisor.policy import Policy
    from supervisor.policy.compare import Difference
    from supervisor.policy.explain import Answer, Explanation


@click.command()
@click.argument("name")
@as_json_option
def explain(name: str, *, as_json: bool) -> None:
    """Tell what a policy, shipped or in a file, does when: thresholds, ladders, conditions, trials and bounds.

    Example: supervise policy explain default
    """
    from supervisor.policy.explain import explain as explained
    from supervisor.policy.loader import load

    told = explained(load(name))
    print_json(told.to_dict()) if as_json else _print_explanation(told)


@click.command()
@click.argument("a")
@click.argument("b")
@as_json_option
def diff(a: str, b: str, *, as_json: bool) -> None:
    """Tell what policy B does otherwise than A, key by key, with everything inherited and every default filled in.

    Example: supervise policy diff default mine.yaml
    """
    from supervisor.policy.compare import differences
    from supervisor.policy.loader import load

    one, other = load(a), load(b)
    found = differences(one, other)
    if as_json:
        print_json([{"key": difference.key, "a": difference.a, "b": difference.b} for difference in found])
    elif not found:
        click.echo(f"{a} and {b} do the same")
    else:
        _print_differences(one, other, (a, b), found)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False)


def _print_explanation(told: Explanation) -> None:
    """Print a policy as wide as the terminal: a pathology after the other, then what goes for all."""
    console = _console()
    console.print(f"{told.name}: {told.description}" if told.description else told.name, style="bold")
    for sentence in told.context:
        console.print(sentence)
    widest = max((len(step.does) for answer in told.answers for step in answer.ladder), default=0)
    for answer in told.answers:
        _print_answer(console, answer, min(widest, console.width * 2 // 5))
    _heading(console, "for all of them")
    for rule in told.rules:
        console.print(_grid((2, "-"), (None, rule)))
    _heading(console, "the remedies")
    table = _grid()
    for remedy in told.remedies:
        defaults = f" Unless stated: {remedy.defaults}." if remedy.defaults else ""
        table.add_row("  " + remedy.name, remedy.summary + defaults)
    console.print(table)


def _heading(console: Console, text: str) -> None:
    from rich.text import Text

    console.print()
    console.rule(Text(text, "bold"), align="left", characters="─", style="dim")


def _grid(*cells: tuple[int | None, str]) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for width, _ in cells:
        grid.add_column(width=width)
    if cells:
        grid.add_row(*(text for _, text in cells))
    return grid


def _print_answer(console: Console, answer: Answer, width: int) -> None:
    from rich.table import Table

    from supervisor.policy.wording import plain, times

    _heading(console, answer.pathology)
    console.print(answer.summary)
    if answer.off:
        console.print(f"Not looked for: {answer.off}.", style="yellow")
        return
    thresholds = _grid()
    for one in answer.thresholds:
        mark = " (as this policy says)" if one.stated else ""
        thresholds.add_row("  " + one.name, plain(one.value), one.meaning + mark, style="" if one.stated else "dim")
    if answer.thresholds:
        console.print(thresholds)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("rung", style="bold", no_wrap=True)
    table.add_column("what is done", style="cyan", width=width)
    table.add_column("only for")
    table.add_column("at most", no_wrap=True)
    table.add_column("trial", no_wrap=True)
    for step in answer.ladder:
        often = "never" if step.never else times(step.times)
        trial = "first" if step.trial and not step.never else "-"
        cells = (str(step.rung), step.does, step.never or step.when or "-", often, trial)
        table.add_row(*cells, style="dim" if step.never else "")
    if answer.end:
        table.add_row("", answer.end, "when no rung is left", "", "")
    console.print(table)


def _print_differences(a: Policy, b: Policy, names: tuple[str, str], found: list[Difference]) -> None:
    """Print plain keys as a table, and ladders rung by rung below it."""
    from rich.table import Table

    from supervisor.policy.compare import changed_rungs
    from supervisor.policy.wording import braced, inline

    console = _console()
    table = Table("key", *names, box=None, pad_edge=False, header_style="bold")
    for one in found:
        if not one.key.startswith("respond."):
            table.add_row(one.key, braced(one.a), braced(one.b))
    if table.row_count:
        console.print(table)
    for one in found:
        if one.key.startswith("respond."):
            console.print(f"\n{one.key}", style="bold")
            for mark, rung in changed_rungs(a, b, one.key.removeprefix("respond.")):
                style = {"-": "red", "+": "green"}.get(mark, "dim")
                console.print(f"{mark} {inline(rung)}", style=style, soft_wrap=True)
