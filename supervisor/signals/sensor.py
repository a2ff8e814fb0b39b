"""All figures of one tick, gathered into one flat vector on the device and read once.

Every tick: the loss and the gradient norm of every parameter (one fused foreach call). On sampled ticks also
weight norms, the last update, what the activations did, and what passed through the layers in both directions. The
schedule is dense at the start and while many units are silent, else every N ticks, and sparser as a run grows long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final

import numpy as np
import torch

from supervisor.records import Anatomy, Sample, Site, Snapshot
from supervisor.run import TrainingRun
from supervisor.signals.activations import ActivationProbe
from supervisor.signals.anatomy import layers_of
from supervisor.signals.figures import Floats, Reading, read
from supervisor.signals.norms import each_norm
from supervisor.signals.origin import OriginWalk
from supervisor.signals.sampling import Sampler

SECOND_MOMENTS: Final = frozenset({"exp_avg_sq", "square_avg", "sum", "exp_inf", "acc_delta"})
"""What torch's optimizers call a second moment in their state."""

FIRST_TICKS: Final = 4  # sampled one and all
SPARSE: Final = 25  # a sample every 4 % of a long quiet run is enough
SILENT_SAMPLES: Final = 8  # samples in a row that make a unit worth re-initializing
LONGEST_SUSPICION: Final = 64  # ticks sampled in a row


class Sensor:
    """Measures a TrainingRun. It changes nothing, and touches no random numbers."""

    def __init__(self, run: TrainingRun, activations_every: int, suspicious: float = 1.0) -> None:
        """Sample every `activations_every` ticks, and again at once where a share `suspicious` of a layer is silent."""
        self.run, self.every, self.suspicious = run, activations_every, suspicious
        self._bind()
        self._suspicion = 0
        self._again = False
        self._last = 1  # the last tick sampled by the clock
        self.closer = False  # whether something looks odd: then samples are as frequent as at the start

    def _bind(self) -> None:
        """Look at the model's structure: at the start, and after a surgery."""
        owned = layers_of(self.run.model, self.run.parameters)
        self.parameters = [p for entry in owned for p in entry.parameters]
        names = {id(p): entry.layer.name for entry in owned for p in entry.parameters}
        self._layers = {entry.layer.name: entry for entry in owned}
        modules = self.run.model.named_modules()
        frozen = {id(p): path or "model" for path, module in modules for p in module.parameters(recurse=False)}
        # Who takes a sample at every tick examines a model, and wants everything looked at.
        self.probe = ActivationProbe(self.run.model, {**frozen, **names}, follow=self.every > 1)
        own = {entry.layer.name: entry.parameters for entry in owned}
        self.sampler = Sampler(self.parameters, own, self.probe)
        self.origins = OriginWalk(self.run, {**frozen, **names})
        self._owner = names
        self._present = list(range(len(self.parameters)))  # which of them have a gradient
        self._dense = all(p.dtype == torch.float32 for p in self.parameters)  # and each has one, as far as is known
        self._arrange(list(self._layers))

    def _arrange(self, order: list[str]) -> None:
        """Fix the order of the layers: that of the forward pass as far as it is known."""
        self._order = order
        index = {name: i for i, name in enumerate(order)}
        self._layer_of = np.array([index[self._owner[id(p)]] for p in self.parameters])
        layers = tuple(self._layers[name].layer for name in order)
        self.sampler.arrange(order, self._layer_of)
        self.run.anatomy = Anatomy(layers, *self._seen())
        self._hidden = np.array([site.hidden for site in self.run.anatomy.sites], dtype=np.bool_)

    def _seen(self) -> tuple[tuple[Site, ...], int, str, bool]:
        """Return what the forward passes have shown of the anatomy."""
        return self.probe.sites(), self.probe.skips, self.probe.mismatch, self._adaptive()

    def _adaptive(self) -> bool:
        """Return whether the optimizer of the first parameter keeps a second moment of its gradients."""
        return not SECOND_MOMENTS.isdisjoint(self.run.state_of(self.parameters[0]))

    def refresh(self) -> None:
        """Learn the model anew after a remedy changed it or its course; the next tick is sampled."""
        self.run.era += 1
        self.run.parameters = self.run.trained_parameters()
        self._bind()
        self._again = True

    def look_again(self) -> None:
        """Sample the next tick: what this one showed needs a closer look."""
        self._again = True

    def silent_units(self) -> dict[str, torch.Tensor]:
        """Return which units were silent in the last samples, by site name, each (units,) bool."""
        return self.probe.silent_units(SILENT_SAMPLES)

    def sampled(self, tick: int) -> bool:
        """Return whether `tick` is a sampled one."""
        interval = self.every if self.closer else max(self.every, tick // SPARSE)
        return self._again or tick <= FIRST_TICKS or tick - self._last >= interval

    def watching(self) -> AbstractContextManager[None]:
        """Return the context for this tick's forward passes."""
        return self.probe.watching() if self.sampled(self.run.clock.tick) else nullcontext()

    def before_step(self) -> None:
        """Remember the weights if the next tick is a sampled one."""
        if self.sampled(self.run.clock.tick + 1):
            self.sampler.updates.remember()
        else:
            self.sampler.updates.forget()

    def snapshot(self, losses: list[torch.Tensor], batches: list[Any]) -> Snapshot:
        """Read this tick's figures, after backward and before the step."""
        scalars = [losses[0] if len(losses) == 1 else torch.stack(losses).mean(), *self._gradient_norms()]
        if not (self.sampled(self.run.clock.tick) and self.probe.complete):
            return self._assemble(read(scalars, (), self.run.device), None, batches)
        self._learn()
        more, vectors = self.sampler.gathered(self.origins.kept(), quiet=not self.closer)
        figures, count = read([*scalars, *more], vectors, self.run.device), len(scalars)
        sample = self.sampler.sample(Reading(figures[count:]))
        self._suspect(sample)
        return self._assemble(figures[:count], sample, batches)

    def _learn(self) -> None:
        """Take over what the forward pass showed of the order of layers and of the sites."""
        tick = self.run.clock.tick
        self._last = self._last if tick <= FIRST_TICKS else tick
        if self.probe.followed:
            return  # it was as it had been
        seen = [name for name in self.probe.layer_order if name in self._layers]
        order = [*seen, *(name for name in self._layers if name not in seen)]
        known = self.run.anatomy
        if order != self._order or self._seen() != (known.sites, known.skips, known.mismatch, known.adaptive):
            self._arrange(order)

    def _gradient_norms(self) -> Sequence[torch.Tensor]:
        """Return the norm of each gradient there is, 0-dim; `_present` are the places of their parameters."""
        gradients = [p.grad for p in self.parameters]
        if self._dense:
            with suppress(TypeError, RuntimeError):  # one is missing, or sparse
                return torch._foreach_norm(gradients)  # type: ignore[arg-type]  # noqa: SLF001
            self._dense = False  # from now on one looks first
        self._present = [i for i, gradient in enumerate(gradients) if gradient is not None]
        return each_norm([_values(gradient) for gradient in gradients if gradient is not None])

    def _assemble(self, figures: Floats, sample: Sample | None, batches: list[Any]) -> Snapshot:
        """Return the snapshot of a tick from its loss and the norms of its gradients, one after the other."""
        clock, norms = self.run.clock, figures[1:]
        if not self._dense:
            norms = np.zeros(len(self.parameters))
            norms[self._present] = figures[1:]
        squares = self.sampler.squares(norms)
        loss, total = float(np.float32(figures[0])), float(np.float32(math.sqrt(sum(squares.tolist()))))
        by_layer = np.sqrt(squares).astype(np.float32)
        origin = self.origins.trace(batches, loss, total, by_layer, sound=sample is None or self.sampler.sound)
        return Snapshot(
            tick=clock.tick,
            era=self.run.era,
            renewals=self.run.renewals,
            step=clock.step,
            loss=loss,
            lr=float(np.float32(self.run.lr)),
            grad_norm=total,
            grad_norms=by_layer,
            anatomy=self.run.anatomy,
            sample=sample,
            origin=origin.kind,
            origin_layer=origin.layer,
        )

    def _suspect(self, sample: Sample) -> None:
        """Sample again at once while many units are silent: a dead layer is told from a quiet one the sooner."""
        silent = sample.silent[self._hidden, 0]
        suspicious = bool(silent.size and silent.max() > self.suspicious)
        self._suspicion = self._suspicion + 1 if suspicious else 0
        self._again = 0 < self._suspicion <= LONGEST_SUSPICION


def _values(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient
