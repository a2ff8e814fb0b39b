"""The figures of the sites on the host: who has been silent for how long, zeros, slopes.

Counts come with the one transfer of a tick. All sites are dealt with in one array here, at a fraction of what as many
small tensors would cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from supervisor.records import SILENCE_LENGTHS, FloatArray
from supervisor.signals.figures import Floats, Reading
from supervisor.signals.watched import ROWS, Key, Watched

SITE_FIGURES: Final = len(SILENCE_LENGTHS) + 3  # of a site: shares of silent units, of zeros, slope, pinned share
LENGTHS: Final = np.array(SILENCE_LENGTHS, np.int32)[:, None]

IntArray = npt.NDArray[np.int32]


class Silence:
    """For how many samples in a row each unit of each site has been silent."""

    def __init__(self) -> None:
        self._zeros: dict[Key, float] = {}  # shares of zeros in the last forward pass
        self._places: dict[Key, slice] = {}  # where the units of a site are in `_runs`
        self._starts = np.zeros(0, np.intp)
        self._units = np.zeros(0)
        self._runs: IntArray = np.zeros(0, np.int32)  # samples in a row, of the units of all sites

    @staticmethod
    def gathered(sites: Sequence[Watched]) -> list[torch.Tensor]:
        """Return what the figures are made of: slopes, (2,) each, counts of the last call, and of all where others."""
        slopes = [s[0] if len(s) == 1 else torch.stack(s).mean(0) for site in sites if (s := site.slopes)]
        last = [site.last for site in sites if site.last is not None]
        others = [site.counts for site in sites if site.counts is not None and _differ(site)]
        return [*slopes, *last, *others]

    def figures(self, sites: Sequence[Watched], reading: Reading) -> FloatArray:
        """Read what was gathered; return (sites, SITE_FIGURES), NaN for slopes that are not known."""
        figures = np.full((len(sites), SITE_FIGURES), math.nan, np.float32)
        for row, site in zip(figures, sites, strict=True):
            if site.slopes:
                row[-2:], site.slopes = reading.take(2), []
        fresh = [site for site in sites if site.last is not None]
        if fresh:
            self._note(fresh, reading)
        figures[:, -3] = [self._zeros.get(site.key, 0.0) for site in sites]
        figures[:, :-3] = self._shares(sites)
        return figures

    def _note(self, fresh: Sequence[Watched], reading: Reading) -> None:
        """Take in how many inputs each unit was awake on, in the last call and since the last sample."""
        begins = list(accumulate((site.units for site in fresh), initial=0))
        counts = reading.take(begins[-1])
        awake = np.add.reduceat(counts, begins[:-1]).tolist()
        self._zeros.update((site.key, 1.0 - on / site.size) for site, on in zip(fresh, awake, strict=True))
        self._lay_out(fresh)
        whole = [site.key for site in fresh] == list(self._places)
        if whole and all(site.rows >= ROWS and not _differ(site) for site in fresh):
            self._close(fresh, self._runs, counts)  # all of them at once, as mostly
            return
        for site, begin in zip(fresh, begins, strict=False):
            own = reading.take(site.units) if _differ(site) else counts[begin : begin + site.units]
            site.last = None
            if site.rows >= ROWS:  # else not enough for a sample
                self._close([site], self._runs[self._places[site.key]], own)

    @staticmethod
    def _close(sites: Sequence[Watched], runs: IntArray, counts: Floats) -> None:
        """Count a sample: units that were awake on any of its inputs begin anew."""
        runs += 1
        runs[counts != 0.0] = 0
        for site in sites:
            site.last, site.counts, site.rows = None, None, 0

    def _lay_out(self, fresh: Sequence[Watched]) -> None:
        """Make room for sites that are new, or have other units than before."""
        if all(self._size(site.key) == site.units for site in fresh):
            return
        sizes = {key: self._size(key) for key in self._places} | {site.key: site.units for site in fresh}
        held = {key: self._runs[place] for key, place in self._places.items() if self._size(key) == sizes[key]}
        self._runs = np.concatenate([held.get(key, np.zeros(size, np.int32)) for key, size in sizes.items()])
        begins = list(accumulate(sizes.values(), initial=0))
        self._starts, self._units = np.array(begins[:-1]), np.array(list(sizes.values()))
        self._places = {key: slice(*ends) for key, ends in zip(sizes, pairwise(begins), strict=True)}

    def _size(self, key: Key) -> int:
        place = self._places.get(key, slice(0, 0))
        return int(place.stop) - int(place.start)

    def _shares(self, sites: Sequence[Watched]) -> FloatArray:
        """Return the shares of units silent for SILENCE_LENGTHS samples running: (sites, lengths)."""
        shares = np.zeros((len(sites), len(SILENCE_LENGTHS)), np.float32)
        if not self._runs.any():
            return shares
        known = np.add.reduceat(self._runs >= LENGTHS, self._starts, axis=1, dtype=np.float64) / self._units
        rows = dict(zip(self._places, known.T, strict=True))
        for row, site in zip(shares, sites, strict=True):
            row[:] = rows.get(site.key, 0.0)
        return shares

    def units(self, site: Watched, samples: int) -> torch.Tensor | None:
        """Return which units have been silent for at least `samples` samples, (units,) bool; None if never counted."""
        place = self._places.get(site.key)
        return None if place is None else torch.from_numpy(self._runs[place] >= samples)


def _differ(site: Watched) -> bool:
    """Return whether other calls than the last one count for the next sample of a site."""
    return site.last is not None and site.counts is not site.last
