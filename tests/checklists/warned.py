"""The register of faulty trainings, by the item that must warn about them."""

from __future__ import annotations

from collections.abc import Callable

from tests.checklists.models import Case

WARNED: dict[str, list[Callable[[], Case]]] = {}


def warns(item: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    def note(build: Callable[[], Case]) -> Callable[[], Case]:
        WARNED.setdefault(item, []).append(build)
        return build

    return note
