"""The commands. Thin: each asks one room and prints the answer."""

from __future__ import annotations

import click

from supervisor.cli.checklists import check, diagnose
from supervisor.cli.clinic import clinic
from supervisor.cli.policies import policy
from supervisor.cli.runs import review, tune
from supervisor.cli.terminal import Commands

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="training-supervisor")
def main() -> None:
    """Watch, heal and explain PyTorch trainings.

    Example: supervise review
    """


main.add_command(check)
main.add_command(clinic)
main.add_command(diagnose)
main.add_command(policy)
main.add_command(review)
main.add_command(tune)
