"""Brings dead units back to life without a jump of what the model computes.

A dead unit contributes nothing, so its incoming weights may be drawn anew as long as its outgoing weights start at
zero: whoever reads it learns first whether it is of use. Towards units that are themselves dead the outgoing
weights stay, else a stack of dead layers could never live again; those units' own outgoing weights are zero.
Readers are Linear, Conv, recurrent (each gate's input weights) and attention layers (query, key and value). Adam counts
steps by parameter, not by row: what `write_where` does about that is said there.
Where a unit is also read past its consumers (a residual stream) or normalized together with others (layer norm)
the function moves a little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.records import Decision, Site
from supervisor.registry import REMEDIES
from supervisor.remedies._fresh import NORMS, weight
from supervisor.remedies._keep import Keep, layer_module, void, write_where
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun

_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class _Reader:
    """A layer that reads the units: its matrices of one column an input, and how many inputs there are."""

    matrices: tuple[nn.Parameter, ...]
    width: int
    groups: int = 1


@dataclass(frozen=True, eq=False)
class _Revival:
    """The dead units of one layer, and everything their new life touches."""

    name: str
    layer: _Layer
    function: str
    dead: Tensor  # (units,) bool
    norm: nn.Module | None
    readers: dict[str, _Reader]

    def parameters(self) -> Iterator[nn.Parameter]:
        for module in (self.layer, *([self.norm] if self.norm else [])):
            yield from module.parameters(recurse=False)
        for reader in self.readers.values():
            yield from reader.matrices


@REMEDIES.register("reinit_dead_units")
@dataclass(frozen=True)
class ReinitDeadUnits:
    """Draw the incoming weights of dead units anew (He), zero their outgoing ones and their moments.

    Refused where no dead units are known, or none of them can be reached from a Linear or Conv layer to its readers.
    """

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the run knows the units
        """Revive every dead unit that can be; say which cannot, and why."""
        revivals, left = _plan(run)
        if not revivals:
            reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
            raise RemedyRefused(reasons or "no dead units are known")
        trained = {id(p) for p in run.parameters}
        touched = {id(p): p for revival in revivals for p in revival.parameters() if id(p) in trained}
        buffers = [b for revival in revivals if revival.norm for b in revival.norm.buffers()]
        keep = Keep(run, touched.values(), buffers)
        for revival in revivals:
            _renew_incoming(run, revival)
        reborn = {revival.name: revival.dead for revival in revivals}
        for revival in revivals:
            for name, reader in revival.readers.items():
                _zero_outgoing(run, reader, revival.dead, reborn.get(name))
        unvoid = void(run, "dead units are re-initialized: these gradients belong to the old weights")

        def undo() -> None:
            keep.restore()
            unvoid()

        renewed = {f"{r.name} (units re-initialized)": (0, int(r.dead.sum())) for r in revivals}
        return Effect({**renewed, **{name: ("dead", f"left: {why}") for name, why in left.items()}}, undo)


def _plan(run: TrainingRun) -> tuple[list[_Revival], dict[str, str]]:
    """Return what can be revived, and by layer or site why the rest cannot."""
    revivals: list[_Revival] = []
    left: dict[str, str] = {}
    by_source: dict[str, list[Site]] = {}
    for site in run.anatomy.sites:
        by_source.setdefault(site.producer or site.name, []).append(site)
    for name, sites in by_source.items():
        if not any(bool(mask.any()) for site in sites if (mask := run.silent_units.get(site.name)) is not None):
            continue
        try:
            revivals.append(_revival(run, name, sites))
        except RemedyRefused as refusal:
            left[name] = str(refusal)
    return revivals, left


def _revival(run: TrainingRun, name: str, sites: list[Site]) -> _Revival:
    """Return the revival of the units of layer `name`. Refused with the reason where it cannot be done."""
    layer = layer_module(run, name) if sites[0].producer else None
    if not isinstance(layer, _LAYERS):
        message = "its units do not come from a Linear or Conv layer"
        raise RemedyRefused(message)
    if any(site.gate or not site.hidden for site in sites):
        message = "its units are gates or outputs"
        raise RemedyRefused(message)
    trained = {id(p) for p in run.parameters}
    if not {id(layer.weight), *map(id, layer.parameters(recurse=False))} <= trained:
        message = "the layer is frozen or parametrized"
        raise RemedyRefused(message)
    dead = _dead(run, sites, layer)
    consumers = dict.fromkeys(consumer for site in sites for consumer in site.consumers)
    readers = {consumer: _reader(run, name, layer, consumer) for consumer in consumers}
    return _Revival(name, layer, sites[0].function, dead, _norm_behind(run, name, layer), readers)


def _dead(run: TrainingRun, sites: list[Site], layer: _Layer) -> Tensor:
    """Return which units are silent at every site of theirs: (units,) bool."""
    units = layer.weight.shape[0]
    masks = [run.silent_units.get(site.name) for site in sites]
    if any(mask is None or mask.shape != (units,) for mask in masks):
        message = f"the sites behind it do not all show its {units} units"
        raise RemedyRefused(message)
    dead = torch.stack([mask for mask in masks if mask is not None]).all(0).to(layer.weight.device)
    if not bool(dead.any()):
        message = "its silent units are awake at another site"
        raise RemedyRefused(message)
    return dead


def _reader(run: TrainingRun, source: str, layer: _Layer, name: str) -> _Reader:
    """Return the layer `name` that reads the units. Refused where their columns cannot be told or written."""
    module = layer_module(run, name)
    sources = {site.producer for site in run.anatomy.sites if name in site.consumers}
    if sources - ({name} - {source}) != {source}:  # what it reads of itself are its own gates
        message = f"{name} reads the units of other layers too"
        raise RemedyRefused(message)
    reader, trained = _columns(module), {id(p) for p in run.parameters}
    if not reader.matrices or not {id(p) for p in reader.matrices} <= trained:
        message = f"{name}, which reads its units, is frozen or not Linear, Conv, recurrent or attention"
        raise RemedyRefused(message)
    units = layer.weight.shape[0]
    flattened = not isinstance(layer, nn.Linear) and isinstance(module, nn.Linear) and reader.width % units == 0
    if reader.width != units and not flattened:
        message = f"{name} reads {reader.width} inputs, which are not its {units} units"
        raise RemedyRefused(message)
    return reader


def _columns(module: nn.Module | None) -> _Reader:
    """Return the matrices of `module` that have a column for each input: none where it is of another kind."""
    named = dict(module.named_parameters(recurse=False)) if module is not None else {}
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        first = ("weight_ih", "weight_ih_l0", "weight_ih_l0_reverse")
        return _Reader(tuple(named[n] for n in first if n in named), module.input_size)
    if isinstance(module, nn.MultiheadAttention):
        return _Reader(tuple(named[n] for n in ("in_proj_weight",) if n in named), module.embed_dim)
    weight = (named["weight"],) if "weight" in named else ()
    if isinstance(module, nn.Linear):
        return _Reader(weight, module.in_features)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return _Reader(weight, module.in_channels, module.groups)
    return _Reader((), 0)


def _norm_behind(run: TrainingRun, producer: str, layer: _Layer) -> nn.Module | None:
    """Return the norm layer directly after `producer`, if it has one weight a unit."""
    names = [entry.name for entry in run.anatomy.layers]
    behind = names[names.index(producer) + 1 :][:1] if producer in names else []
    norm = layer_module(run, behind[0]) if behind else None
    if isinstance(norm, NORMS) and getattr(norm.weight, "shape", None) == layer.weight.shape[:1]:
        return norm
    return None


@torch.no_grad()
def _renew_incoming(run: TrainingRun, revival: _Revival) -> None:
    layer, dead = revival.layer, revival.dead
    rows = dead.view(-1, *[1] * (layer.weight.ndim - 1)).expand_as(layer.weight)
    write_where(run, layer.weight, rows, weight(layer.weight, revival.function))
    if layer.bias is not None:
        write_where(run, layer.bias, dead, 0.0)
    trained = {id(p) for p in run.parameters}
    for name, parameter in revival.norm.named_parameters(recurse=False) if revival.norm is not None else ():
        if id(parameter) in trained:
            write_where(run, parameter, dead, 1.0 if name == "weight" else 0.0)
    for name, buffer in revival.norm.named_buffers(recurse=False) if revival.norm is not None else ():
        if buffer.shape == dead.shape:
            buffer.masked_fill_(dead, 1.0 if name == "running_var" else 0.0)


def _zero_outgoing(run: TrainingRun, reader: _Reader, dead: Tensor, reborn: Tensor | None) -> None:
    """Zero the weights from `dead` units to those rows of `reader` that are not themselves `reborn`."""
    groups, units = reader.groups, dead.numel() // reader.groups
    for matrix in reader.matrices:
        live = torch.ones(matrix.shape[0], dtype=torch.bool, device=matrix.device) if reborn is None else ~reborn
        taps = math.prod(matrix.shape[1:]) // units  # kernel positions, or the pixels of a flattened channel
        mask = live.view(groups, -1, 1, 1) & dead.view(groups, 1, units, 1)
        write_where(run, matrix, mask.expand(-1, -1, -1, taps).reshape(matrix.shape), 0.0)
