"""The policies that come with the package, as text. Nothing here needs torch or a detector."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.errors import PolicyError
from supervisor.registry import nearest


def folder() -> Path:
    """Return where the shipped policies lie: inside the installed package, or at the top of the repository."""
    package = Path(__file__).parents[1]
    for candidate in (package / "policies", package.parent / "policies"):
        if (candidate / "default.yaml").is_file():
            return candidate
    message = f"{package / 'policies'}: the shipped policies are missing. Install the package again."
    raise PolicyError(message)


def names() -> list[str]:
    """Return the names of the shipped policies, sorted, `default` first."""
    return sorted((path.stem for path in folder().glob("*.yaml")), key=lambda name: (name != "default", name))


def shipped() -> list[tuple[str, str]]:
    """Return name and description of each shipped policy."""
    from supervisor.policy.document import read_file  # noqa: PLC0415 - yaml, for whoever reads one

    paths = [folder() / f"{name}.yaml" for name in names()]
    return [(path.stem, str(read_file(path, str(path)).data.get("description", ""))) for path in paths]


def shipped_text(name: str) -> str:
    """Return the text of a shipped policy. Raises PolicyError offering the nearest name."""
    return shipped_path(name).read_text(encoding="utf-8")


def shipped_path(name: str) -> Path:
    """Return the file of a shipped policy. Raises PolicyError offering the nearest name."""
    if name in names():
        return folder() / f"{name}.yaml"
    raise PolicyError(no_such(name))


def text_of(name_or_path: str) -> str:
    """Return the text of a policy as it was written. Raises PolicyError if there is none."""
    path = locate(name_or_path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        message = f"{name_or_path}: cannot read the policy: {getattr(error, 'strerror', error)}"
        raise PolicyError(message) from None


def looks_like_path(name: str) -> bool:
    """Return whether `name` is a path and not the name of a shipped policy."""
    return any(mark in name for mark in (".yaml", ".yml", "/", os.sep))


def locate(name_or_path: str | Path) -> Path:
    """Return the file of a shipped policy or the path given; a shipped name wins over a file called so.

    Raises PolicyError for a word that is neither. Whether a path leads to a file is for its reader to find out.
    """
    if isinstance(name_or_path, Path) or looks_like_path(name_or_path):
        return Path(name_or_path)
    if name_or_path not in names() and Path(name_or_path).is_file():
        return Path(name_or_path)
    return shipped_path(name_or_path)


def no_such(name: str) -> str:
    """Return what to say about a name that no shipped policy has."""
    hint = nearest(name, names()) or " A file is named by its path, like ./mine.yaml."
    return f"no shipped policy {name[:60]!r}.{hint} Shipped: {', '.join(names())}"
