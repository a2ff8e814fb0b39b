"""The words a policy may use: those of the contract, and which of them this version builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from supervisor.records import PATHOLOGIES
from supervisor.registry import DETECTORS, REMEDIES, Registry, nearest

REMEDY_NAMES: Final = (
    "skip_step",
    "clip_norm",
    "clip_value",
    "lower_lr",
    "raise_lr",
    "warmup_lr",
    "reduce_lr_on_plateau",
    "weight_decay",
    "rollback",
    "skip_batches",
    "reinit_dead_units",
    "reinit_weights",
    "swap_activation",
    "insert_norm",
    "add_residual",
    "rescale_weights",
    "stop",
    "advise",
)
"""All remedies of the contract."""

LATER_KEYS: Final = frozenset(
    {"mode", "hold", "min_lr", "skip_batches"},
)
"""Keys of the contract that need not be built: where a place does not know them, they are no mistyping."""


def unknown(noun: str, word: str, known: Iterable[str], contract: Iterable[str] = ()) -> str:
    """Return what to say about a word that is not `known`; words of the contract are not built yet."""
    known = sorted(known)
    if word in contract:
        return f"{noun} {word!r} is not available in this version. Available: {', '.join(known) or 'none'}"
    hint = nearest(word, known) or (f" Known: {', '.join(known)}" if known else " There is nothing to set here.")
    return f"unknown {noun} {word[:60]!r}.{hint}"


@dataclass(frozen=True)
class Vocabulary:
    """The detectors and remedies that are built."""

    detectors: Registry[Any] = dataclasses.field(default=DETECTORS)
    remedies: Registry[Any] = dataclasses.field(default=REMEDIES)

    def reject_pathology(self, name: str) -> str | None:
        """Return why a pathology cannot be named, None if it can."""
        if name in self.detectors:
            return None
        return unknown("pathology", name, self.detectors.names(), PATHOLOGIES)

    def reject_remedy(self, name: str) -> str | None:
        """Return why a remedy cannot be a rung, None if it can."""
        if name in self.remedies:
            return None
        return unknown("remedy", name, self.remedies.names(), REMEDY_NAMES)

    def reject_forbidden(self, name: str) -> str | None:
        """Return why a remedy cannot be forbidden, None if it can: also those that are not built."""
        known = {*REMEDY_NAMES, *self.remedies.names()}
        return None if name in known else unknown("remedy", name, known)
