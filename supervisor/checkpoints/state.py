"""One exact state: everything that decides how the training goes on.

Parameters, buffers (non-persistent too), gradients' absence, optimizer state and groups, scheduler, random number
generators, train/eval flags and requires_grad. Restoring copies into the existing storage, never makes new
Parameters, so that references held by the user stay valid. What remedies set on the tick clock (multiplier,
clip limit) is not part of a state; surgeries are undone first, the last one first.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from supervisor.checkpoints.buffers import Kept, copy_tensors, keep_buffers, put_buffers
from supervisor.run import Surgery, TrainingRun


@dataclass(frozen=True, eq=False)
class _OptimizerState:
    states: dict[torch.Tensor, dict[str, Any]]  # tensors cloned
    groups: list[dict[str, Any]]  # without "params"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run between two ticks."""

    tick: int
    step: int
    parameters: list[tuple[nn.Parameter, torch.Tensor]]  # (the live one, its copy)
    buffers: Kept
    optimizers: list[_OptimizerState]
    scheduler: dict[str, Any] | None
    rng: dict[str, Any]
    flags: list[tuple[nn.Module, bool]]
    requires_grad: list[tuple[nn.Parameter, bool]]
    surgeries: tuple[Surgery, ...]
    storage: list[torch.Tensor]  # of all copies of parameters and optimizer state, in the order they were taken


def capture(run: TrainingRun, spare: Checkpoint | None = None) -> Checkpoint:
    """Return a copy of the state of `run` that shares no storage with it.

    A `spare` state that nobody will restore any more gives its memory: fresh memory costs more than the copying.
    """
    modules = list(run.model.modules())
    own = {id(p): p for module in modules for p in module._parameters.values() if p is not None}  # noqa: SLF001
    parameters = list(own.values())
    live = [*parameters, *(t for optimizer in run.optimizers for t in _tensors_of(optimizer))]
    storage = _storage(live, spare)
    copy_tensors(storage, live)
    copies = {id(t): kept for t, kept in zip(live, storage, strict=True)}
    return Checkpoint(
        tick=run.clock.tick,
        step=run.clock.step,
        parameters=list(zip(parameters, storage, strict=False)),
        buffers=keep_buffers(modules),
        optimizers=[_optimizer_state(optimizer, copies) for optimizer in run.optimizers],
        scheduler=None if run.scheduler is None else copy.deepcopy(run.scheduler.state_dict()),
        rng=rng_state(run.device),
        flags=[(module, module.training) for module in modules],
        requires_grad=[(p, p.requires_grad) for p in parameters],
        surgeries=tuple(run.surgeries),
        storage=storage,
    )


def _storage(live: list[torch.Tensor], spare: Checkpoint | None) -> list[torch.Tensor]:
    """Return tensors that `live` fits into: those of `spare` where they are alike, else new ones."""
    old = spare.storage if spare is not None else []
    if len(old) == len(live) and all(map(_alike, old, live)):
        return old
    return [torch.empty_like(t) for t in live]


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and a.layout == b.layout


def restore(run: TrainingRun, checkpoint: Checkpoint) -> None:
    """Put `run` back into the captured state, bit for bit. The tick goes on; the step goes back."""
    run.undo_surgeries(checkpoint.surgeries)
    copy_tensors([live for live, _ in checkpoint.parameters], [kept for _, kept in checkpoint.parameters])
    put_buffers(checkpoint.buffers)
    for optimizer, state in zip(run.optimizers, checkpoint.optimizers, strict=True):
        _restore_optimizer(optimizer, state)
    if run.scheduler is not None and checkpoint.scheduler is not None:
        run.scheduler.load_state_dict(copy.deepcopy(checkpoint.scheduler))
    restore_rng(checkpoint.rng)
    for module, training in checkpoint.flags:
        module.training = training
    for parameter, requires_grad in checkpoint.requires_grad:
        parameter.requires_grad_(requires_grad)
        parameter.grad = None
    run.clock.step = checkpoint.step


def _tensors_of(optimizer: Optimizer) -> list[torch.Tensor]:
    return [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]


def _optimizer_state(optimizer: Optimizer, copies: dict[int, torch.Tensor]) -> _OptimizerState:
    """Return the state of `optimizer`; `copies` maps id(tensor) to the copy that was made of it."""
    states = {
        p: {key: copies[id(v)] if id(v) in copies else _kept(v) for key, v in state.items()}
        for p, state in optimizer.state.items()
    }
    groups = [{k: _kept(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return _OptimizerState(states, groups)


def _kept(value: Any) -> Any:  # noqa: ANN401 - optimizers keep tensors, numbers, and lists of them
    if _immutable(value) or (isinstance(value, tuple) and all(map(_immutable, value))):
        return value
    return value.detach().clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)


def _immutable(value: Any) -> bool:  # noqa: ANN401
    return value is None or isinstance(value, (int, float, str))


def _restore_optimizer(optimizer: Optimizer, kept: _OptimizerState) -> None:
    for parameter in [p for p in optimizer.state if p not in kept.states]:
        del optimizer.state[parameter]  # first stepped after the capture
    for parameter, state in kept.states.items():
        live = optimizer.state[parameter]
        for key in [key for key in live if key not in state]:
            del live[key]
        for key, value in state.items():
            live[key] = _put_back(live.get(key), value)
    for group, values in zip(optimizer.param_groups, kept.groups, strict=False):
        for key, value in values.items():
            group[key] = _put_back(group.get(key), value)


def _put_back(live: Any, kept: Any) -> Any:  # noqa: ANN401
    """Return the live object with the kept value: the same storage where shapes allow."""
    if isinstance(live, torch.Tensor) and isinstance(kept, torch.Tensor) and live.shape == kept.shape:
        with torch.no_grad():
            live.copy_(kept)
        return live
    return _kept(kept)


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the states of the generators of python, numpy, torch and, where it is used, CUDA."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - users' augmentations draw from the global one
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Put all random number generators back."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
