"""An optimizer's whole memory: state, groups, and what it keeps beside them in attributes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from supervisor.checkpoints.putting import Putter
from supervisor.checkpoints.trees import IMMUTABLE, Keeper

_NO_STATE: Final = ("state", "param_groups", "defaults")


@dataclass(frozen=True, eq=False, slots=True)
class GroupState:
    """One param_group: which parameters it held, and its settings."""

    params: list[Tensor]
    values: dict[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class OptimizerState:
    """The memory of one optimizer, as kept trees."""

    states: dict[Any, Any]  # the parameter (or what else the optimizer keys by): its state
    groups: list[GroupState]
    attributes: dict[str, Any]  # counters, slow weights: plain data that lies beside `state`
    inner: dict[str, OptimizerState]  # an optimizer that this one wraps (SAM, Lookahead)


def keep_optimizer(optimizer: Optimizer, keeper: Keeper) -> OptimizerState:
    """Return the kept memory of `optimizer`."""
    keep = keeper.keep
    inner = dict(_inner(optimizer))
    shared = {id(one) for within in inner.values() for one in vars(within).values()}
    return OptimizerState(
        keeper.keep_all(optimizer.state),
        [
            GroupState(group["params"][:], {k: keep(v) for k, v in group.items() if k != "params"})
            for group in optimizer.param_groups
        ],
        {name: keep(value) for name, value in _attributes(optimizer) if id(value) not in shared or _immutable(value)},
        {name: keep_optimizer(within, keeper) for name, within in inner.items()},
    )


def put_optimizer(optimizer: Optimizer, kept: OptimizerState, putter: Putter) -> None:
    """Put the memory back, in place. What was first stepped, or added as a group, since then is gone again."""
    for name, state in kept.inner.items():
        put_optimizer(vars(optimizer)[name], state, putter)
    putter.put_dict(optimizer.state, kept.states)
    groups = optimizer.param_groups
    del groups[len(kept.groups) :]
    groups.extend({"params": []} for _ in range(len(kept.groups) - len(groups)))
    for group, was in zip(groups, kept.groups, strict=True):
        params = group["params"]
        params[:] = was.params
        putter.put_dict(group, {"params": None, **was.values})
        group["params"] = params  # the very same list, in its old place
    for name, value in kept.attributes.items():
        vars(optimizer)[name] = putter.put(vars(optimizer).get(name), value)


def tensors_of(optimizer: Optimizer) -> Iterator[Tensor]:
    """Yield the tensors of the optimizer's state that lie where optimizers commonly keep them: one level deep."""
    for state in optimizer.state.values():
        if isinstance(state, dict):
            yield from (value for value in state.values() if isinstance(value, Tensor))


def _inner(optimizer: Optimizer) -> Iterator[tuple[str, Optimizer]]:
    for name, value in vars(optimizer).items():
        if isinstance(value, Optimizer) and value is not optimizer:
            yield name, value


def _attributes(optimizer: Optimizer) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that hold plain data. Hooks are none, and would be lost if they were put back."""
    for name, value in vars(optimizer).items():
        if name not in _NO_STATE and not name.startswith("_optimizer_") and _data(value):
            yield name, value


def _immutable(value: Any) -> bool:  # noqa: ANN401
    return type(value) in IMMUTABLE


def _data(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, dict):
        return all(map(_data, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_data, value))
    return type(value) in IMMUTABLE or isinstance(value, (Tensor, np.ndarray, np.generic))
