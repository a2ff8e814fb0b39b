"""Repeats recorded surgeries on a fresh model, so that a healed state_dict loads without a supervisor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar

from torch import nn

from supervisor.errors import RemedyRefused, UsageError
from supervisor.registry import REMEDIES

Model = TypeVar("Model", bound=nn.Module)


def rebuild(model: Model, changes: Iterable[Mapping[str, Any]]) -> Model:
    """Do the surgeries in `changes` (a report's `model_changes`) on `model`, in place, and return it.

    All or none: UsageError names the change that does not fit the model, and the earlier ones are taken back.
    """
    with ExitStack() as done:
        for index, change in enumerate(changes):
            kind = str(change.get("kind"))
            if kind not in REMEDIES or not hasattr(REMEDIES[kind], "operate"):
                message = f"changes[{index}]: kind {kind!r} is no surgery this version knows"
                raise UsageError(message)
            try:
                done.callback(REMEDIES[kind].operate(model, change))
            except (RemedyRefused, KeyError) as error:
                message = f"changes[{index}] ({kind}): {error}. Is this the model the run began with?"
                raise UsageError(message) from error
        done.pop_all()
    return model
