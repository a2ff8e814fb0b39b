"""`diagnose()`: a model as it stands, layer by layer, over a few batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from supervisor.activations import SILENT_AT_ZERO, SLOPES
from supervisor.checklists import initialization, passage
from supervisor.checklists.checking import optimizers_of
from supervisor.checklists.data import values_of
from supervisor.checklists.design import STEEPEST
from supervisor.checklists.evidence import Examined, findings_of
from supervisor.checklists.figures import NAN, Examination, LayerFigures
from supervisor.checklists.first_pass import FirstPass, TrainFn, first_step, gradients_of, listener, passed_through
from supervisor.checklists.graph import depth_of
from supervisor.checklists.matrices import Matrix, matrices
from supervisor.checklists.optimizing import warming
from supervisor.checklists.untouched import copied, stand_in, untouched
from supervisor.entry.training import kind_of
from supervisor.errors import UsageError
from supervisor.policy import Policy
from supervisor.records import SILENCE_LENGTHS, Sample, Snapshot
from supervisor.remedies._fresh import following
from supervisor.signals import Sensor
from supervisor.signals.tags import tensors_in
from supervisor.signals.watched import ROWS

_CHAIN: Final = ("linear", "conv", "recurrent")


def diagnose(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    data: Iterable[Any] | None = None,
    train_fn: TrainFn | None = None,
    *,
    batches: int = 8,
) -> Examination:
    """Examine a model over a few batches, and change nothing.

    Args:
        model: what is examined, trained or not, in the mode it is in.
        optimizer: whose next step is told beside the weights (it is taken on a copy); left out: that is not told.
        data: batches; the first few are used. Random numbers drawn for them are put back, a one-shot iterator is not.
        train_fn: `train_fn(batch)` returns the loss, or a mapping whose `"loss"` is one.
        batches: how many to look at; units count as silent when none of them wakes them.

    Raises:
        UsageError: an argument does not fit, or `train_fn` returns no loss. What `train_fn` raises passes through.

    """
    optimizers = optimizers_of(model, optimizer) if optimizer is not None else ()
    optimizers_of(model, [torch.optim.SGD([torch.zeros(1)], lr=0.0)])
    if train_fn is None or not isinstance(data, Iterable):
        message = (
            f"data, train_fn: expected batches and a function of one batch, got {kind_of(data)}, {kind_of(train_fn)}"
        )
        raise UsageError(message)
    if batches < 1:
        message = f"batches: expected a whole number of at least 1, got {batches!r}"
        raise UsageError(message)
    found = FirstPass(model, optimizers, Policy("none"), None)
    with untouched(model, optimizers):
        sensor = Sensor(stand_in(model), 1)
        snapshots = _look(sensor, found, train_fn, data, batches)
    found.steps = first_step(sensor, optimizers, found.gradients) if optimizers else {}
    return _examination(found, snapshots)


def _look(sensor: Sensor, found: FirstPass, train_fn: TrainFn, data: Iterable[Any], batches: int) -> list[Snapshot]:
    """Run forward and backward on each batch; what is not gathered by the snapshots is kept of the last one."""
    run, snapshots = sensor.run, []
    for batch in islice(data, batches):
        run.clock.tick += 1
        run.drop_gradients()
        found.batch = batch
        listening = listener(sensor)
        loss, root = passed_through(sensor, listening, found, train_fn, copied(batch))
        snapshots.append(sensor.snapshot([loss], [batch]))
        found.seen, found.depth = listening.seen, depth_of(root)
    if not snapshots:
        message = "data: it is empty, there is no batch to look at. Was an iterator passed that is used up already?"
        raise UsageError(message)
    found.snapshot, found.anatomy = snapshots[-1], run.anatomy
    found.gradients = gradients_of(found.model)
    return snapshots


def _examination(found: FirstPass, snapshots: list[Snapshot]) -> Examination:
    layers = _layers(found, snapshots)
    examined = _examined(found, snapshots, layers)
    chain = [layer.flow for layer in layers if layer.flow > 0]
    return Examination(
        layers=layers,
        findings=tuple(findings_of(examined)),
        batches=len(snapshots),
        loss=float(np.median([now.loss for now in snapshots])),
        grad_norm=float(np.median([now.grad_norm for now in snapshots])),
        depth=examined.depth,
        shortest=found.depth.shortest if found.depth is not None else examined.depth,
        amplification=chain[0] / chain[-1] if len(chain) > 1 else NAN,
        bound=examined.bound,
    )


def _examined(found: FirstPass, snapshots: list[Snapshot], layers: tuple[LayerFigures, ...]) -> Examined:
    """Gather what is judged."""
    squashing = [s.function for s in found.anatomy.sites if s.hidden and not s.gate and s.function in STEEPEST]
    alike, shut = initialization.units_differ(found), initialization.negative_biases(found)
    stuck = passage.gradients_arrive(found).status == "warned"
    return Examined(
        layers=layers,
        snapshots=snapshots,
        squashing=len(squashing),
        bound=math.prod(STEEPEST[name] for name in squashing),
        depth=found.depth.longest if found.depth is not None else len(found.matrices),
        skips=found.depth.skips if found.depth is not None else found.anatomy.skips > 0,
        alike=alike.where if alike.status == "warned" else (),
        unreached=tuple(layer.name for layer in layers if stuck and layer.gradient == 0 and layer.kind in _CHAIN),
        negative=shut.where if shut.status == "warned" else (),
        rates=tuple(float(g["lr"]) for o in found.optimizers for g in o.param_groups if "lr" in g),
        warming=warming(found.optimizers),
    )


def _layers(found: FirstPass, snapshots: list[Snapshot]) -> tuple[LayerFigures, ...]:
    """Return the figures of each layer: medians over the batches."""
    samples = [now.sample for now in snapshots if now.sample is not None]
    layers = found.anatomy.layers
    flow = [_median([float(s.flow[i]) for s in samples if i < len(s.flow)]) for i in range(len(layers))]
    chain = [i for i, layer in enumerate(layers) if layer.kind in _CHAIN and math.isfinite(flow[i])]
    after = {i: flow[i] / flow[j] if flow[j] > 0 else NAN for i, j in pairwise(chain)}
    weights = {m.layer: m for m in matrices(found)}
    gradients = [
        _median([float(n.grad_norms[i]) for n in snapshots if i < len(n.grad_norms)]) for i in range(len(layers))
    ]
    return tuple(
        replace(
            _figures(found, samples, i, weights.get(layer.name)),
            gradient=gradients[i],
            flow=flow[i],
            amplification=after.get(i, NAN),
        )
        for i, layer in enumerate(layers)
    )


def _figures(found: FirstPass, samples: list[Sample], i: int, matrix: Matrix | None) -> LayerFigures:
    """Return what the weights, the last batch and the next step tell of the layer at place `i`."""
    layer, last = found.anatomy.layers[i], samples[-1]
    moments = found.seen.moments.get(layer.name)
    silent, saturated = _shares(found, last, layer.name, len(samples))
    return LayerFigures(
        name=layer.name,
        kind=layer.kind,
        size=layer.size,
        activation=following(found.anatomy, layer.name) or "",
        mean=moments.mean if moments else NAN,
        std=moments.std if moments else NAN,
        units=max((site.units for site in found.anatomy.sites if site.producer == layer.name), default=0),
        silent=silent,
        saturated=saturated,
        update_ratio=found.steps.get(layer.name, NAN),
        weight=matrix.size if matrix else NAN,
        weight_scale=matrix.size / matrix.neutral if matrix else NAN,
        steps=float(last.time_steps[i]),
        through_time=_through_time(last, i),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else NAN


def _shares(found: FirstPass, sample: Sample, layer: str, batches: int) -> tuple[float, float]:
    """Return the shares of units silent in all batches and of outputs at an end, of the activations behind a layer."""
    rows = next((len(t) for t in tensors_in((values_of(found.batch),)) if t.ndim), ROWS)
    samples = max(1, batches // max(1, math.ceil(ROWS / max(1, rows))))  # small batches are gathered into one sample
    column = max(k for k, length in enumerate(SILENCE_LENGTHS) if length <= samples)
    silent, pinned = [], []
    for i, site in enumerate(found.anatomy.sites):
        if site.producer == layer and site.hidden:
            silent += [float(sample.silent[i, column])] if site.function in SILENT_AT_ZERO else []
            pinned += [float(sample.pinned[i])] if site.function in SLOPES else []
    return max(silent, default=NAN), max(pinned, default=NAN)


def _through_time(sample: Sample, i: int) -> float:
    times = sample.time_flow[i]
    return float(times[0] / times[-1]) if np.isfinite(times).all() and times[-1] > 0 else NAN
