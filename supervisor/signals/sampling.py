"""The figures that are too dear for every tick: gathered on the device in few calls, made into a Sample on the host.

All norms of a sample are taken in one fused call, and all travel in the tick's one vector. What is done with them is
done on the host: dozens of scalars are dealt with there at a tenth of what as many tensors would cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from supervisor.records import SILENCE_LENGTHS, FloatArray, Sample
from supervisor.signals.activations import ActivationProbe
from supervisor.signals.figures import Floats, Reading
from supervisor.signals.matrices import Spread
from supervisor.signals.norms import each_norm
from supervisor.signals.updates import UpdateProbe

_LENGTHS: Final = len(SILENCE_LENGTHS)

Gathered = tuple[list[torch.Tensor], list[torch.Tensor]]
"""0-dim tensors, and vectors that follow them."""


class Sampler:
    """Takes the samples of one model as it stands."""

    def __init__(
        self, parameters: list[nn.Parameter], layers: Mapping[str, Sequence[nn.Parameter]], probe: ActivationProbe,
    ) -> None:  # fmt: skip
        """`layers` holds the parameters of each layer by its name; together they are `parameters`."""
        self.parameters, self.layers, self.probe = parameters, layers, probe
        self.updates = UpdateProbe(parameters)
        self.sound = True  # whether what is kept between the ticks was finite in the last sample

    def arrange(self, order: Sequence[str], layer_of: npt.NDArray[np.intp]) -> None:
        """Tell of layers in this order; `layer_of` is the place of each parameter's layer in it."""
        self.order, self._layer_of = order, layer_of
        self._spread = Spread([self.layers[name] for name in order])

    def gathered(self, kept: list[torch.Tensor], *, quiet: bool) -> Gathered:
        """Return what a sample is made of. `kept` is what lives between the ticks and has to be finite."""
        moved, corners = self.updates.moved(), self._spread.gathered(quiet=quiet)
        self._counts = len(moved), len(kept), len(corners)
        passages, times = self.probe.flow.gathered(self.order)
        sizes = each_norm([*(p.detach() for p in self.parameters), *moved, *kept, *corners])
        return [*sizes, *passages], [*times, *self.probe.gathered()]

    def sample(self, reading: Reading) -> Sample:
        """Read a sample, in the order in which it was gathered."""
        moved, kept, corners = self._counts
        weights = reading.take(len(self.parameters))
        updates = reading.take(moved) * self.updates.scales if moved else np.full_like(weights, math.nan)
        self.sound = bool(np.isfinite(reading.take(kept)).all())
        spread = self._spread.figures(corners, reading)
        passages, through_time = self.probe.flow.figures(len(self.order), reading)
        sites = self.probe.figures(reading)
        return Sample(
            weight_norms=self._by_layer(weights),
            update_norms=self._by_layer(updates),
            spread=spread,
            signal=passages[:, 0],
            flow=passages[:, 1],
            time_steps=passages[:, 2],
            time_flow=through_time,
            silent=sites[:, :_LENGTHS],
            zeros=sites[:, _LENGTHS],
            slope=sites[:, _LENGTHS + 1],
            pinned=sites[:, _LENGTHS + 2],
        )

    def _by_layer(self, norms: Floats) -> FloatArray:
        return np.sqrt(self.squares(norms)).astype(np.float32)

    def squares(self, norms: Floats) -> Floats:
        """Return the squared norms of the layers, (layers,), from the norms of their parameters."""
        return np.asarray(np.bincount(self._layer_of, norms * norms, len(self.order)), np.float64)
