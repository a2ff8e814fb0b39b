"""All figures of one tick, gathered into one flat vector on the device and read once.

Every tick: the loss and the gradient norm of every parameter (one fused foreach call). On sampled ticks also
weight norms, the last update, what the activations did, and what passed through the layers in both directions. The
schedule is dense at the start and while many units are silent, else every N ticks, and sparser as a run grows long.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from supervisor.records import SILENCE_LENGTHS, Anatomy, FloatArray, Sample, Snapshot
from supervisor.run import TrainingRun
from supervisor.signals.activations import ActivationProbe
from supervisor.signals.anatomy import layers_of, read
from supervisor.signals.flow import PASSAGE_FIGURES
from supervisor.signals.matrices import spread
from supervisor.signals.norms import each_norm, gathered, norms
from supervisor.signals.origin import OriginWalk
from supervisor.signals.updates import UpdateProbe
from supervisor.signals.watched import SITE_FIGURES

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
        self.probe = ActivationProbe(self.run.model, {**frozen, **names})
        self.updates = UpdateProbe(self.parameters)
        self.origins = OriginWalk(self.run, {**frozen, **names})
        self._owner = names
        self._arrange(list(self._layers))

    def _arrange(self, order: list[str]) -> None:
        """Fix the order of the layers: that of the forward pass as far as it is known."""
        self._order = order
        index = {name: i for i, name in enumerate(order)}
        self._layer_of = np.array([index[self._owner[id(p)]] for p in self.parameters])
        layers = tuple(self._layers[name].layer for name in order)
        seen = (self.probe.sites(), self.probe.skips, self.probe.mismatch, self._adaptive())
        self.run.anatomy = Anatomy(layers, *seen)

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
            self.updates.remember()
        else:
            self.updates.forget()

    def snapshot(self, losses: list[torch.Tensor], batches: list[Any]) -> Snapshot:
        """Read this tick's figures, after backward and before the step."""
        sampled = self.sampled(self.run.clock.tick)
        if sampled:
            self._last = self._last if self.run.clock.tick <= FIRST_TICKS else self.run.clock.tick
            self._learn()
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        vector = gathered([loss, *self._gradient_norms()], self.run.device)
        if sampled:
            vector = torch.cat([vector, *self._sample_sections()])
        return self._assemble(read(vector), sampled=sampled, batches=batches)

    def _learn(self) -> None:
        """Take over what the forward pass showed of the order of layers and of the sites."""
        seen = [name for name in self.probe.layer_order if name in self._layers]
        order = [*seen, *(name for name in self._layers if name not in seen)]
        seen_now = (self.probe.sites(), self.probe.skips, self.probe.mismatch, self._adaptive())
        known = self.run.anatomy
        if order != self._order or seen_now != (known.sites, known.skips, known.mismatch, known.adaptive):
            self._arrange(order)

    def _gradient_norms(self) -> tuple[torch.Tensor, ...]:
        gradients = [(i, _dense(p.grad)) for i, p in enumerate(self.parameters) if p.grad is not None]
        self._present = [i for i, _ in gradients]
        return each_norm([gradient for _, gradient in gradients])

    def _sample_sections(self) -> list[torch.Tensor]:
        weights = norms([p.detach() for p in self.parameters], self.run.device)
        moved = self.updates.norms()
        unknown = torch.full((len(self.parameters),), math.nan, device=self.run.device)
        units = spread([self._layers[name].parameters for name in self._order], self.run.device)
        passages = self.probe.flow.figures(self._order, self.run.device).reshape(-1)
        sites = self.probe.figures(self.run.device).reshape(-1)
        known = [weights, unknown if moved is None else moved, units, passages, sites]
        return [self.origins.soundness(), *known]

    def _assemble(self, figures: FloatArray, *, sampled: bool, batches: list[Any]) -> Snapshot:
        clock = self.run.clock
        count = len(self._present)
        gradients = figures[1 : 1 + count]
        if count < len(self.parameters):
            gradients = np.zeros(len(self.parameters), dtype=np.float32)
            gradients[self._present] = figures[1 : 1 + count]
        squares = np.square(gradients, dtype=np.float64)
        by_layer, total = self._roots(squares), np.float32(math.sqrt(float(squares.sum())))
        sample = self._sample(figures[2 + count :]) if sampled else None
        loss = float(figures[0])
        sound = not sampled or math.isfinite(figures[1 + count])
        origin = self.origins.trace(batches, loss, float(total), by_layer, sound=sound)
        return Snapshot(
            tick=clock.tick,
            era=self.run.era,
            step=clock.step,
            loss=loss,
            lr=float(np.float32(self.run.lr)),
            grad_norm=float(total),
            grad_norms=by_layer,
            anatomy=self.run.anatomy,
            sample=sample,
            origin=origin.kind,
            origin_layer=origin.layer,
        )

    def _by_layer(self, norms: npt.NDArray[np.float32]) -> FloatArray:
        return self._roots(np.square(norms, dtype=np.float64))

    def _roots(self, squares: npt.NDArray[np.float64]) -> FloatArray:
        """Return the root of the sum of `squares`, (parameters,), by layer: (layers,)."""
        summed = np.bincount(self._layer_of, weights=squares, minlength=len(self._order))
        return np.sqrt(summed, out=summed).astype(np.float32)

    def _sample(self, figures: FloatArray) -> Sample:
        count, layers = len(self.parameters), len(self._order)
        by_layer = 2 * count + layers
        by_site = by_layer + layers * PASSAGE_FIGURES
        passages = figures[by_layer:by_site].reshape(layers, PASSAGE_FIGURES).copy()
        sites = figures[by_site:].reshape(-1, SITE_FIGURES).copy()
        lengths = len(SILENCE_LENGTHS)
        sample = Sample(
            weight_norms=self._by_layer(figures[:count]),
            update_norms=self._by_layer(figures[count : 2 * count]),
            spread=figures[2 * count : by_layer].copy(),
            signal=passages[:, 0],
            flow=passages[:, 1],
            time_steps=passages[:, 2],
            time_flow=passages[:, 3:],
            silent=sites[:, :lengths],
            zeros=sites[:, lengths],
            slope=sites[:, lengths + 1],
            pinned=sites[:, lengths + 2],
        )
        self._suspect(sample)
        return sample

    def _suspect(self, sample: Sample) -> None:
        """Sample again at once while many units are silent: a dead layer is told from a quiet one the sooner."""
        hidden = np.array([site.hidden for site in self.run.anatomy.sites], dtype=np.bool_)
        suspicious = bool(hidden.any() and sample.silent[hidden, 0].max() > self.suspicious)
        self._suspicion = self._suspicion + 1 if suspicious else 0
        self._again = 0 < self._suspicion <= LONGEST_SUSPICION


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient
