"""What remedies share: keeping tensors so that they return bit-exactly, and starting an optimizer's memory anew."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.run import TrainingRun

_STARTS: Final[dict[str, float | None]] = {"mu_product": 1.0, "mu": 1.0, "step_size": None, "eta": None}
"""Optimizer state that does not start at zero (NAdam, ASGD, Rprop); None: a rate of its own, left as it is."""


class Keep:
    """Copies of parameters, buffers and optimizer state, taken before a remedy writes into them.

    Memory: one copy of the weights touched and of their moments, for as long as the undo is kept.
    """

    def __init__(self, run: TrainingRun, parameters: Iterable[nn.Parameter], buffers: Iterable[Tensor] = ()) -> None:
        parameters = list(parameters)
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in [*parameters, *buffers]]
        self._states = [(state, _copied(state)) for state in map(run.state_of, parameters)]

    @torch.no_grad()
    def restore(self) -> None:
        """Write everything back, into the same tensors."""
        for tensor, kept in self._tensors:
            tensor.copy_(kept)
        for state, kept_state in self._states:
            for key in state.keys() - kept_state.keys():
                del state[key]
            for key, value in kept_state.items():
                if isinstance(value, Tensor) and isinstance(state.get(key), Tensor):
                    state[key].copy_(value)
                else:
                    state[key] = copy.deepcopy(value)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {key: v.clone() if isinstance(v, Tensor) else copy.deepcopy(v) for key, v in state.items()}


@torch.no_grad()
def restart_moments(run: TrainingRun, parameter: nn.Parameter) -> None:
    """Let the optimizer forget `parameter`: moments and step count as before its first step, in place."""
    state = run.state_of(parameter)
    for key, value in state.items():
        start = _STARTS.get(key, 0.0)
        if isinstance(value, Tensor) and start is not None:
            value.fill_(start)
        elif key == "step":
            state[key] = 0


@torch.no_grad()
def write_where(run: TrainingRun, parameter: Tensor, mask: Tensor, values: Tensor | float) -> None:
    """Set `parameter` to `values` where `mask` (of its shape) holds; the moments of those elements become zero."""
    fresh = torch.as_tensor(values, dtype=parameter.dtype, device=parameter.device)
    parameter.copy_(torch.where(mask, fresh, parameter))
    for value in run.state_of(cast("nn.Parameter", parameter)).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(mask, 0)


def void(run: TrainingRun, why: str) -> Callable[[], None]:
    """Void this tick's step; return what takes that back, as long as the tick lasts."""
    before, tick = run.voided, run.clock.tick
    run.void_step(why)

    def undo() -> None:
        if run.clock.tick == tick:
            run.voided = before

    return undo


def layer_module(run: TrainingRun, name: str) -> nn.Module | None:
    """Return the module of the layer `name` of the anatomy, or None. "model" stands for the model itself."""
    try:
        return run.module(name)
    except RemedyRefused:
        return run.model if name == "model" else None
