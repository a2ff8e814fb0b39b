"""`supervise policy`: the shipped policies, and the checking of one's own."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it, so that --help answers within 0.3 s

from __future__ import annotations

import sys

import click

from supervisor.cli.explaining import diff, explain
from supervisor.cli.starting import new
from supervisor.cli.terminal import as_json_option, print_json, print_table
from supervisor.errors import PolicyError


@click.group()
def policy() -> None:
    """Look at policies, compare, check and begin them, without training.

    Example: supervise policy check mine.yaml
    """


@policy.command("list")
@as_json_option
def list_(*, as_json: bool) -> None:
    """List the shipped policies.

    Example: supervise policy list
    """
    from supervisor.policy.shipped import shipped

    policies = shipped()
    if as_json:
        print_json([{"name": name, "description": description} for name, description in policies])
    else:
        print_table(("policy", "what it does"), policies)


@policy.command()
@click.argument("name")
@click.option("--resolved", is_flag=True, help="Write out everything it inherits.")
@as_json_option
def show(name: str, *, resolved: bool, as_json: bool) -> None:
    """Show a policy, shipped or in a file: as it was written, or resolved (--json: always resolved).

    Example: supervise policy show default --resolved
    """
    if resolved or as_json:
        from supervisor.policy.loader import load, to_dict, to_yaml

        loaded = load(name)
        print_json(to_dict(loaded)) if as_json else click.echo(to_yaml(loaded), nl=False)
    else:
        from supervisor.policy.shipped import text_of

        click.echo(text_of(name), nl=False)


@policy.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@as_json_option
def check(files: tuple[str, ...], *, as_json: bool) -> None:
    """Check policy files; exit with 2 if one is wrong.

    Example: supervise policy check mine.yaml policies/*.yaml
    """
    from supervisor.policy.loader import load

    problems: dict[str, list[str]] = {}
    for file in files:
        try:
            load(file)
        except PolicyError as error:
            problems[file] = list(error.problems)
    if as_json:
        print_json([{"file": file, "problems": problems.get(file, [])} for file in files])
    else:
        for file in files:
            click.echo("\n".join(problems.get(file, [f"{file}: good"])), err=file in problems)
    if problems:
        sys.exit(2)


@policy.command()
def schema() -> None:
    """Print the JSON schema of policy files, for editors.

    Example: supervise policy schema > policies/policy.schema.json
    """
    from supervisor.policy.schema import json_schema

    print_json(json_schema())


policy.add_command(explain)
policy.add_command(diff)
policy.add_command(new)
