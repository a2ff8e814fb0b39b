"""What MODULE:FUNCTION and a checkpoint's file name: the training, and the state it is examined in."""
# ruff: noqa: PLC0415 - torch is imported where it is needed, so that --help answers within 0.3 s

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from supervisor.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from supervisor.entry import Training

STATES: Final = ("model", "state_dict", "model_state_dict")
"""Under which names a checkpoint may hold the model's state."""


def load_training(where: str) -> Training:
    """Import MODULE:FUNCTION from the current folder or the installed packages, call it, return its Training.

    Raises UsageError naming what is missing. What the function itself raises passes through.
    """
    from supervisor.entry import Training
    from supervisor.entry.training import kind_of
    from supervisor.registry import nearest

    name, _, attribute = where.partition(":")
    if not name or not attribute:
        message = f"{where}: expected MODULE:FUNCTION, such as my_training:build"
        raise UsageError(message)
    module = _module(name, where)
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        message = f"{where}: {module.__file__} has no function {attribute!r}.{nearest(attribute, known)}"
        raise UsageError(message)
    training = function()
    if not isinstance(training, Training):
        message = f"{where}: returned {kind_of(training)}; let it return supervisor.Training(train_fn, model, ...)"
        raise UsageError(message)
    training.check()
    return training


def _module(name: str, where: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # something that the module itself imports
        message = f"{where}: there is no module {error.name!r} here or installed. Run it where {error.name}.py lies"
        raise UsageError(message) from None


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load a state_dict into `model`, also one inside a dict under a usual name. UsageError where it does not fit."""
    content = _tensors(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in STATES if isinstance(content.get(key), Mapping)), content)
    try:
        model.load_state_dict(content)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).strip().splitlines()]
        message = f"{path}: does not fit {type(model).__name__}: {' '.join(lines[1:4] or lines)}"
        raise UsageError(message) from None


def _tensors(path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        message = f"{path}: there is no such file"
        raise UsageError(message) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        message = (
            f"{path}: holds no plain tensors ({reason}). Save it with torch.save(model.state_dict(), {str(path)!r})"
        )
        raise UsageError(message) from None
