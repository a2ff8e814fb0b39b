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

_SQUARES: Final = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})
"""Running means of squared gradients, which the step is divided by the root of."""


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
    """Set `parameter` to `values` where `mask` (of its shape) holds; the optimizer starts anew for those elements.

    Adam's step count is one for the whole parameter and long past its bias correction, so a second moment of zero would
    make the steps of new elements up to 6.5 times too large for a thousand steps (betas 0.9, 0.999). Theirs starts at
    the mean of the others', where a corrected one would be soon; all else that has a value by element at zero.
    """
    fresh = torch.as_tensor(values, dtype=parameter.dtype, device=parameter.device)
    parameter.copy_(torch.where(mask, fresh, parameter))
    others = (~mask).sum().clamp(min=1)
    for key, value in run.state_of(cast("nn.Parameter", parameter)).items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            usual = value.masked_fill(mask, 0).float().sum() / others if key in _SQUARES else 0.0
            value.copy_(torch.where(mask, torch.as_tensor(usual, dtype=value.dtype, device=value.device), value))


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
