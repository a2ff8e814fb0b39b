"""What the commands share: errors without a stack trace, tables and plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import click

from supervisor.errors import PolicyError, SupervisorError, UnknownNameError, UsageError

WRONG_USAGE: Final = (PolicyError, UsageError, UnknownNameError)  # exit code 2; the other errors: 1

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print plain data instead of text.")


class Commands(click.Group):
    """Commands that answer a user's mistake with its message alone, never with a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command; print an error's message and leave with its exit code."""
        try:
            return super().invoke(ctx)
        except SupervisorError as error:
            click.echo(str(error), err=True)
            ctx.exit(2 if isinstance(error, WRONG_USAGE) else 1)
        except OSError as error:
            if error.filename is None:  # a closed pipe, which click ends quietly
                raise
            click.echo(f"{error.filename}: {error.strerror}", err=True)
            ctx.exit(1)


def print_json(facts: Any) -> None:  # noqa: ANN401 - any record
    """Print `facts` as JSON."""
    click.echo(json.dumps(facts, indent=2, allow_nan=False))


def print_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table as wide as the terminal; nothing in it is taken for markup."""
    from rich.console import Console  # noqa: PLC0415 - only where a table is printed
    from rich.table import Table  # noqa: PLC0415

    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
