"""Names and what stands behind them: detectors, remedies, and the services bound at run time.

A detector or remedy registers itself with a decorator; outsiders' packages do so through entry points
(`supervisor.detectors`, `supervisor.remedies`). The policy knows names only: this module is where a name
meets its class, so that judging never has to import what touches tensors.

Services (tracking backends, the background scheduler) live in rooms above the one that uses them.
They are named here as strings and imported when a run starts.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Final, Generic, TypeVar

from supervisor.errors import UnknownNameError

T = TypeVar("T")

SERVICES: Final = {
    "mlflow": "supervisor.recording.mlflow:MlflowRecorder",
    "background": "supervisor.background.beside:Beside",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known word nearest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


class Registry(Generic[T]):
    """Classes by name. The shipped ones live in `package`, one file each; outsiders come by entry points."""

    def __init__(self, noun: str, package: str, group: str) -> None:
        self.noun, self.package, self.group = noun, package, group
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return a class decorator that files the class under `name`."""

        def decorate(cls: type[T]) -> type[T]:
            taken = self._classes.get(name)
            if taken is not None and taken.__qualname__ != cls.__qualname__:
                message = f"{self.noun} {name!r} is registered twice: {taken!r} and {cls!r}"
                raise ValueError(message)
            self._classes[name] = cls
            return cls

        return decorate

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        importlib.import_module(self.package)
        for point in entry_points(group=self.group):
            self._classes.setdefault(point.name, point.load())

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        self._load()
        return tuple(sorted(self._classes))

    def __getitem__(self, name: str) -> type[T]:
        """Return the class filed under `name`; UnknownNameError offers the nearest name otherwise."""
        self._load()
        try:
            return self._classes[name]
        except KeyError:
            message = f"unknown {self.noun} {name!r}.{nearest(name, self._classes)}"
            raise UnknownNameError(message) from None

    def __contains__(self, name: object) -> bool:
        """Whether `name` is registered."""
        self._load()
        return name in self._classes


DETECTORS: Final[Registry[Any]] = Registry("detector", "supervisor.diagnoses", "supervisor.detectors")
REMEDIES: Final[Registry[Any]] = Registry("remedy", "supervisor.remedies", "supervisor.remedies")


def service(name: str) -> Any:  # noqa: ANN401 - a class from a room above
    """Import and return the service called `name`."""
    try:
        module, _, attribute = SERVICES[name].partition(":")
    except KeyError:
        message = f"unknown service {name!r}.{nearest(name, SERVICES)} Known: {', '.join(SERVICES)}"
        raise UnknownNameError(message) from None
    return getattr(importlib.import_module(module), attribute)
