"""Gives layers fresh initial weights that fit the activation behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._fresh import following, fresh
from supervisor.remedies._keep import Keep, layer_module, restart_moments, void
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("reinit_weights")
@dataclass(frozen=True)
class ReinitWeights:
    """Initialize anew, in place: He before rectifiers, Glorot elsewhere, orthogonal recurrence, neutral norms.

    The optimizer forgets what it knew of these weights. Embeddings, frozen parameters and parameters of unknown
    meaning stay. Drawn from torch's global random numbers.
    """

    layers: Annotated[Literal["all", "found"], Field(description="all layers, or only those the finding names")] = "all"

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Initialize the layers. Refused where none of them has a parameter to initialize."""
        names = [layer.name for layer in run.anatomy.layers]
        if self.layers == "found":
            names = [name for name in names if name in decision.finding.where]
        plan = list(_plan(run, names))
        if not plan:
            message = f"none of the layers ({', '.join(names) or 'none named'}) has a trained weight to initialize"
            raise RemedyRefused(message)
        norms = [m for name in names if isinstance(m := layer_module(run, name), _NormBase) and m.track_running_stats]
        keep = Keep(run, [parameter for _, parameter, _ in plan], [b for norm in norms for b in norm.buffers()])
        changes = _write(run, plan)
        for norm in norms:
            norm.reset_running_stats()
        unvoid = void(run, "the weights are new: these gradients belong to the old ones")

        def undo() -> None:
            keep.restore()
            unvoid()

        return Effect(changes, undo)


def _plan(run: TrainingRun, names: list[str]) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """Yield what to initialize: its name, itself, its new values. A tied parameter comes once."""
    left = {id(p) for p in run.parameters}
    for layer in names:
        module = layer_module(run, layer)
        function = following(run.anatomy, layer)
        for name, parameter in module.named_parameters(recurse=False) if module is not None else ():
            if id(parameter) not in left:
                continue
            values = fresh(module, name, parameter, function) if module is not None else None
            if values is not None:
                left.discard(id(parameter))
                yield f"{layer}.{name}", parameter, values


@torch.no_grad()
def _write(run: TrainingRun, plan: list[tuple[str, nn.Parameter, Tensor]]) -> dict[str, tuple[Any, Any]]:
    """Write the new values; return the root mean squares of what was written, before and after."""
    changes: dict[str, tuple[Any, Any]] = {}
    for name, parameter, values in plan:
        before = _rms(parameter)
        parameter.copy_(values)
        restart_moments(run, parameter)
        changes[f"{name} (rms)"] = (before, _rms(parameter))
    return changes


def _rms(tensor: Tensor) -> float:
    return float(tensor.float().square().mean().sqrt())
