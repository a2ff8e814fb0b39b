"""Rescales weights so that what each layer returns has unit variance on this tick's batch (LSUV)."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._keep import Keep, restart_moments, void
from supervisor.remedies._passes import Trace
from supervisor.remedies._trace import traced
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun

TOLERANCE: Final = 0.1  # of the variance: nearer than that a layer stays as it is (Mishkin & Matas, 2016)
SILENT: Final = 1e-8  # std of an output, relative to the largest of the pass, below which no scale can be told

_Layer = nn.Linear | _ConvNd


@REMEDIES.register("rescale_weights")
@dataclass(frozen=True)
class RescaleWeights:
    """Divide each weight by the standard deviation of its layer's output, the bias apart (Mishkin & Matas, 2016).

    One forward pass does all layers: each hands its rescaled output on. Whatever activation follows, its input gets
    unit variance, which is the slope of a sigmoid and both halves of a rectifier; the optimizer forgets the moments.
    Left alone are outputs (their scale is what was learned), layers directly before a norm (their scale cancels),
    layers that run several times a pass (their scale is a dynamic), tied, frozen and parametrized weights, and layers
    that return constants, such as the zero at the end of a residual branch. Refused where this tick's batch cannot be
    run again.
    """

    orthogonal: Annotated[bool, Field(description="draw orthonormal weights first (Saxe et al., 2014)")] = False

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Rescale the layers in the order in which they run."""
        layers, left = _chosen(run, traced(run))
        if not layers:
            message = f"no layer can be rescaled. {'; '.join(f'{name}: {why}' for name, why in left.items())}".strip()
            raise RemedyRefused(message)
        keep = Keep(run, [parameter for layer in layers.values() for parameter in layer.parameters(recurse=False)])
        try:
            stds = self._pass(run, layers)
        except BaseException:
            keep.restore()
            raise
        moved = [name for name, std in stds.items() if self.orthogonal or abs(std * std - 1.0) > TOLERANCE]
        if not moved:
            keep.restore()
            message = "the output of every layer that could be rescaled has unit variance already"
            raise RemedyRefused(message)
        for layer in layers.values() if self.orthogonal else map(layers.__getitem__, moved):
            restart_moments(run, cast("nn.Parameter", layer.weight))
        unvoid = void(run, "the weights are rescaled: these gradients belong to the old ones")

        def undo() -> None:
            keep.restore()
            unvoid()

        changes: dict[str, tuple[Any, Any]] = {f"{name} (std of output)": (stds[name], 1.0) for name in moved}
        return Effect({**changes, **{name: ("as it was", f"left: {why}") for name, why in left.items()}}, undo)

    @torch.no_grad()
    def _pass(self, run: TrainingRun, layers: dict[str, _Layer]) -> dict[str, float]:
        """Run the batch once, each layer rescaling itself; return the std of each output as it was."""
        assert run.replay is not None
        if self.orthogonal:
            for layer in layers.values():
                layer.weight.copy_(_orthonormal(layer.weight))
        rescaling = _Rescaling()
        with ExitStack() as hooks:
            for name, layer in layers.items():
                hooks.callback(layer.register_forward_hook(rescaling.hook(name)).remove)
            run.replay()
        return rescaling.stds


@dataclass
class _Rescaling:
    """What happens to each layer as it runs."""

    stds: dict[str, float] = field(default_factory=dict)
    largest: float = 0.0

    def hook(self, name: str) -> Any:  # noqa: ANN401 - as torch's hooks are
        def rescale(layer: _Layer, _inputs: Any, output: Tensor) -> Tensor | None:  # noqa: ANN401
            bias = _shaped(layer, output)
            raw = output - bias
            std = float(raw.float().std()) if raw.numel() > 1 else 0.0
            if not (math.isfinite(std) and std > SILENT * max(self.largest, 1e-30)) or name in self.stds:
                return None
            self.largest, self.stds[name] = max(self.largest, std), std
            if abs(std * std - 1.0) <= TOLERANCE:
                return None
            layer.weight.div_(std)
            return raw / std + bias

        return rescale


def _shaped(layer: _Layer, output: Tensor) -> Tensor:
    """Return the bias in a shape that fits the output of its layer."""
    if layer.bias is None:
        return output.new_zeros(())
    if isinstance(layer, nn.Linear):
        return layer.bias
    return layer.bias.view(-1, *[1] * len(layer.kernel_size))


def _chosen(run: TrainingRun, trace: Trace) -> tuple[dict[str, _Layer], dict[str, str]]:
    """Return the layers to rescale by name, and by name why others are left."""
    trained, owners = {id(p) for p in run.parameters}, _owners(run.model)
    layers: dict[str, _Layer] = {}
    left: dict[str, str] = {}
    for call in trace.calls:
        layer = call.module
        if not isinstance(layer, (nn.Linear, _ConvNd)) or call.path in layers or call.path in left:
            continue
        if id(layer.weight) not in trained:
            left[call.path] = "its weight is frozen or parametrized"
        elif owners[id(layer.weight)] > 1:
            left[call.path] = "its weight is tied to another layer's"
        elif trace.repeated(layer.weight):
            left[call.path] = "it runs several times a pass"
        elif not trace.read & call.bit:
            left[call.path] = "it is an output"
        elif any(True for _ in layer.children()) or _before_norm(trace, call.output):
            left[call.path] = "a norm follows"
        else:
            layers[call.path] = layer
    return layers, left


def _before_norm(trace: Trace, output: Any) -> bool:  # noqa: ANN401 - what the layer returned
    return any(any(given is output for given in call.inputs) for call in trace.calls if call.norm)


def _owners(model: nn.Module) -> dict[int, int]:
    """Return how many modules hold each parameter."""
    count: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            count[id(parameter)] = count.get(id(parameter), 0) + 1
    return count


def _orthonormal(weight: Tensor) -> Tensor:
    """Return orthonormal rows or columns in the shape of `weight`, drawn from torch's global random numbers."""
    return nn.init.orthogonal_(torch.empty_like(weight, dtype=torch.float32)).to(weight.dtype)
