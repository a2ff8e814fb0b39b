"""Everything a state consists of, by the name that a person would look for it under."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from supervisor.checkpoints.members import members_of, module_names, parameter_names
from supervisor.checkpoints.optimizers import OptimizerState
from supervisor.checkpoints.state import Checkpoint
from supervisor.checkpoints.trees import Leaf, Ref, Row
from supervisor.run import TrainingRun


def named(run: TrainingRun, checkpoint: Checkpoint) -> Iterator[tuple[str, Any]]:
    """Yield (name, copied tensor or value) of all that `checkpoint` holds; every name is unique.

    Names are those of the run as it stands: of a state from before a surgery, restore it first.
    """
    members = members_of(run)
    modules, parameters = module_names(members), {id(p): name for name, p in parameter_names(members)}
    for live, kept in checkpoint.parameters:
        yield f"parameter {parameters.get(id(live), '?')}", kept
    for module, name, _, copy in checkpoint.buffers:
        yield f"buffer {_joined(modules.get(id(module), '?'), name)}", copy
    for name, optimizer in checkpoint.optimizers.items():
        yield from _of_optimizer(name, optimizer, parameters)
    for name, state in checkpoint.others.items():
        yield from leaves(state, name, parameters)
    for module, state in checkpoint.extra:
        yield from leaves(state, f"extra state {modules.get(id(module), '?')}", parameters)
    for name, state in checkpoint.rng.items():
        yield from leaves(state if isinstance(state, list) else [state], f"rng {name}", parameters)
    for module, training in zip(checkpoint.modules, checkpoint.training, strict=True):
        yield f"train/eval flag {modules.get(id(module), '?') or 'model'}", training
    for live, requires_grad in zip(checkpoint.live, checkpoint.requires_grad, strict=True):
        yield f"requires_grad {parameters.get(id(live), '?')}", requires_grad


def _of_optimizer(path: str, kept: OptimizerState, parameters: dict[int, str]) -> Iterator[tuple[str, Any]]:
    for key, state in kept.states.items():
        yield from leaves(state, f"{path}.state[{_key(key, parameters)}]", parameters)
    for index, group in enumerate(kept.groups):
        yield f"{path}.group[{index}].params", [parameters.get(id(p), "?") for p in group.params]
        yield from leaves(group.values, f"{path}.group[{index}]", parameters)
    yield from leaves(kept.attributes, path, parameters)
    for name, inner in kept.inner.items():
        yield from _of_optimizer(f"{path}.{name}", inner, parameters)


def leaves(kept: Any, path: str, parameters: dict[int, str]) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any tree
    """Yield (path, tensor or value) of everything in a kept tree; `parameters` names those that serve as keys."""
    if isinstance(kept, Row):
        kept = kept.leaves()
    if isinstance(kept, dict):
        for key, value in kept.items():
            yield from leaves(value, _joined(path, _key(key, parameters)), parameters)
    elif isinstance(kept, (list, tuple)) and not all(isinstance(value, (int, float)) for value in kept):
        for index, value in enumerate(kept):
            yield from leaves(value, f"{path}[{index}]", parameters)
    elif isinstance(kept, Ref):
        yield path, parameters.get(id(kept.to), type(kept.to).__name__)
    else:
        yield path, kept.copy if isinstance(kept, Leaf) else kept


def _key(key: Any, parameters: dict[int, str]) -> str:  # noqa: ANN401
    return parameters.get(id(key), "?") if isinstance(key, Tensor) else str(key)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
