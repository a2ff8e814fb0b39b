"""The pathology's own figure at the end of a branch: whether gradients arrive again, units live again. Pure.

Higher is healthier. A figure tells of the illness before the loss can: a network whose first layers have just begun
to get a gradient has learned nothing yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from supervisor.records import SILENCE_LENGTHS, Anatomy, FloatArray, Sample

_SILENT_FOR: Final = SILENCE_LENGTHS.index(8)  # samples in a row


def figure(pathology: str, sample: Sample, anatomy: Anatomy) -> float:
    """Return how well a network is, as far as `pathology` goes; NaN where there is no such figure."""
    known = _FIGURES.get(pathology)
    return math.nan if known is None else min(known(sample, anatomy), _WELL[pathology])


def healed(pathology: str, before: float, after: float) -> bool:
    """Return whether a figure is clearly better than that of doing nothing."""
    return after - before >= _CLEARLY.get(pathology, math.inf)


def pace(sample: Sample) -> float:
    """Return the median over the layers of how far the last step moved their weights, relative to these."""
    known = sample.update_ratios[np.isfinite(sample.update_ratios)]
    return float(np.median(known)) if len(known) else math.nan


def _stride(sample: Sample, _anatomy: Anatomy) -> float:
    """Return the decades of the pace."""
    speed = pace(sample)
    return math.log10(max(speed, 1e-30)) if speed == speed else math.nan  # noqa: PLR0124 - NaN


def _flow(sample: Sample, _anatomy: Anatomy) -> float:
    """Return the decades between the weakest and the strongest gradient over the depth, or over time: at most 0."""
    ratios = [_decades(sample.flow), *map(_decades, sample.time_flow)]
    return min((ratio for ratio in ratios if ratio == ratio), default=math.nan)  # noqa: PLR0124 - NaN


def _decades(flow: FloatArray) -> float:
    known = flow[np.isfinite(flow)]
    if len(known) < 2 or not known.max() > 0.0:
        return math.nan
    return float(np.log10(max(float(known.min()), 1e-30) / float(known.max())))


def _alive(sample: Sample, anatomy: Anatomy) -> float:
    """Return the share of hidden units that speak."""
    hidden = [i for i, site in enumerate(anatomy.sites) if site.hidden and np.isfinite(sample.silent[i, _SILENT_FOR])]
    units = sum(anatomy.sites[i].units for i in hidden)
    silent = sum(float(sample.silent[i, _SILENT_FOR]) * anatomy.sites[i].units for i in hidden)
    return 1.0 - silent / units if units else math.nan


def _slope(sample: Sample, anatomy: Anatomy) -> float:
    """Return the slope left at the most saturated hidden site, relative to its largest; 1 where none squashes."""
    slopes = [float(sample.slope[i]) for i, site in enumerate(anatomy.sites) if site.hidden or site.gate]
    return min((slope for slope in slopes if slope == slope), default=1.0)  # noqa: PLR0124 - NaN


_FIGURES: Final[Mapping[str, Callable[[Sample, Anatomy], float]]] = {
    "vanishing_gradients": _flow,
    "dead_units": _alive,
    "saturation": _slope,
    "plateau": _stride,
}

_WELL: Final[Mapping[str, float]] = {
    "vanishing_gradients": -2.0,  # decades that a healthy network may lose
    "dead_units": 0.8,  # of the units: a healthy layer of rectifiers may leave the others silent for some batches
    "saturation": 0.5,  # of the largest slope
    "plateau": -2.5,  # decades: an update of 0.3 % of the weights, which is neither slow nor wild
}
"""What is well: no better figure makes a network any healthier."""

_CLEARLY: Final[Mapping[str, float]] = {
    "vanishing_gradients": 1.0,  # a decade
    "dead_units": 0.2,  # a fifth of all units
    "saturation": 0.2,  # of the largest slope
    "plateau": 0.5,  # decades
}
