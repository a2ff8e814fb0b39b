"""`supervise policy new`: a policy of one's own, that begins as another."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it, so that --help answers within 0.3 s

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import click

from supervisor.cli.terminal import as_json_option, print_json
from supervisor.errors import UsageError

_NAME: Final = re.compile(r"\w[\w.-]{0,59}")


@click.command()
@click.argument("name")
@click.option("--extends", default="default", show_default=True, help="A shipped policy, or the path of a file.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; left out, NAME.yaml.")
@as_json_option
def new(name: str, *, extends: str, out: Path | None, as_json: bool) -> None:
    """Write a starting file in which everything that is inherited stands as a comment, ready to be changed.

    Example: supervise policy new careful --extends cautious --out policies/careful.yaml
    """
    from supervisor.policy.loader import load
    from supervisor.policy.shipped import locate, looks_like_path, names
    from supervisor.policy.starting import starting_file

    if not _NAME.fullmatch(name) or looks_like_path(name):
        message = f"{name[:60]!r}: expected a plain name, such as my-policy. --out says where its file is to lie"
        raise UsageError(message)
    if name in names():
        message = f"{name!r} is a shipped policy, which would win over a file of that name. Choose another name"
        raise UsageError(message)
    file = out or Path(f"{name}.yaml")
    parent = load(extends)
    where = extends if extends in names() else _from(file, locate(extends))
    _write(file, starting_file(name, where, parent))
    if as_json:
        print_json({"name": name, "extends": where, "file": str(file)})
        return
    click.echo(f"{file}: extends {where}, and does the same until you change it.")
    click.echo("For completion in your editor, beside it: supervise policy schema > policy.schema.json")


def _from(file: Path, parent: Path) -> str:
    """Return `parent` as a path from the folder that `file` lies in, which always looks like a path."""
    path = os.path.relpath(parent.resolve(), file.resolve().parent)
    return path if os.sep in path else f".{os.sep}{path}"


def _write(file: Path, text: str) -> None:
    if not file.absolute().parent.is_dir():
        message = f"{file}: there is no folder {str(file.parent)!r}. Make it first, or choose another --out"
        raise UsageError(message)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        message = f"{file}: exists already, and is not overwritten. Choose another --out"
        raise UsageError(message) from None
