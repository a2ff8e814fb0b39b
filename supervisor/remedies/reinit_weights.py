"""Gives layers fresh initial weights that fit the activation behind them."""

from __future__ import annotations

import math
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
from supervisor.remedies._fresh import following, fresh, orthogonal
from supervisor.remedies._keep import Keep, layer_module, restart_moments, void
from supervisor.remedies._passes import Trace
from supervisor.remedies._trace import seen_once_more
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("reinit_weights")
@dataclass(frozen=True)
class ReinitWeights:
    """Initialize anew, in place: He before rectifiers, Glorot elsewhere, orthogonal recurrence, neutral norms.

    A square matrix that is applied to what it has helped to make (a recurrence written by hand) becomes orthogonal, and
    so do the square blocks of gates. What ends a residual branch that nothing normalizes is divided by the root of the
    number of branches, so that their sum stays of the size of one (Hayou et al., 2021). Both show only where this
    tick's batch can be run again. The optimizer forgets what it knew of these weights. A network drawn anew as a whole
    has its training before it: step and schedule begin anew. Embeddings, frozen parameters
    and parameters of unknown meaning stay. Drawn from torch's global random numbers.
    """

    layers: Annotated[Literal["all", "found"], Field(description="all layers, or only those the finding names")] = "all"
    restart: Annotated[bool, Field(description="with all layers: step and schedule begin anew as well")] = True

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
        return_to = _nowhere
        if self.restart and self.layers == "all":
            changes["step"] = (run.clock.step, 0)
            return_to = run.restart()

        def undo() -> None:
            keep.restore()
            return_to()
            unvoid()

        return Effect(changes, undo)


def _nowhere() -> None:
    """Leave the step where it is."""


def _plan(run: TrainingRun, names: list[str]) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """Yield what to initialize: its name, itself, its new values. A tied parameter comes once."""
    left = {id(p) for p in run.parameters}
    trace = seen_once_more(run)
    ends = _branch_ends(run, trace)
    for layer in names:
        module = layer_module(run, layer)
        function = following(run.anatomy, layer)
        for name, parameter in module.named_parameters(recurse=False) if module is not None else ():
            if id(parameter) not in left:
                continue
            values = fresh(module, name, parameter, function) if module is not None else None
            if values is not None and _recurrent(run, trace, layer, parameter):
                values = orthogonal(parameter)
            if values is not None:
                left.discard(id(parameter))
                ending = layer in ends and parameter.ndim > 1
                yield f"{layer}.{name}", parameter, values / math.sqrt(len(ends)) if ending else values


def _recurrent(run: TrainingRun, trace: Trace | None, layer: str, parameter: Tensor) -> bool:
    """Whether `parameter` is a recurrent matrix: square, or of three or four gates' square blocks."""
    if parameter.ndim != 2 or isinstance(layer_module(run, layer), (nn.RNNBase, nn.RNNCellBase)):
        return False
    sites = [site for site in run.anatomy.sites if site.producer == layer]
    blocks, rest = divmod(parameter.shape[0], parameter.shape[1])
    square = blocks == 1 or (blocks in {3, 4} and any(site.gate for site in sites))
    again = any(len(site.calls) > 1 for site in sites) if trace is None else id(parameter) in trace.recurrent
    return again and square and not rest


def _branch_ends(run: TrainingRun, trace: Trace | None) -> set[str]:
    """Return the layers whose output is added to a way around them, without a norm before the next weights."""
    scaled = any(surgery.change["kind"] == "add_residual" for surgery in run.surgeries)  # by its own factor
    if trace is None or scaled:
        return set()
    bits = trace.ends & ~trace.normed
    return {call.path for call in trace.calls if call.bit & bits and not any(True for _ in call.module.children())}


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
