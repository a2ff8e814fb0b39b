"""The policies that come with the package, as text. Nothing here needs torch or a detector."""

from __future__ import annotations

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


def no_such(name: str) -> str:
    """Return what to say about a name that no shipped policy has."""
    hint = nearest(name, names()) or " A file is named by its path, like ./mine.yaml."
    return f"no shipped policy {name[:60]!r}.{hint} Shipped: {', '.join(names())}"
