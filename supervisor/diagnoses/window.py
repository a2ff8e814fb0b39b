"""The last values of a figure, kept in order as they come: medians at a tenth of the price of sorting them anew."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque


class Window:
    """Up to `size` finite values, the oldest of which leaves when another comes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, value: float) -> None:
        """Take in a value."""
        ordered = self._ordered
        if len(ordered) == self._size:
            del ordered[bisect_left(ordered, self._values.popleft())]
        self._values.append(value)
        insort(ordered, value)

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()
        self._ordered.clear()

    def median(self) -> float:
        """Return the median of the values. There must be one."""
        ordered, half = self._ordered, len(self._ordered) // 2
        if len(ordered) % 2:
            return ordered[half]
        return 0.5 * ordered[half - 1] + 0.5 * ordered[half]  # a sum first may overflow

    def deviation(self, centre: float) -> float:
        """Return the median of the values' distances from `centre`. There must be a value."""
        half = len(self._ordered) // 2
        if len(self._ordered) % 2:
            return self._distance(half + 1, centre)
        return 0.5 * self._distance(half, centre) + 0.5 * self._distance(half + 1, centre)

    def _distance(self, count: int, centre: float) -> float:
        """Return how far the `count` values next to `centre` reach: in order they are neighbours."""
        ordered = self._ordered
        low, high = 0, len(ordered) - count
        while low < high:
            middle = (low + high) // 2
            if centre - ordered[middle] > ordered[middle + count] - centre:
                low = middle + 1
            else:
                high = middle
        return max(abs(ordered[low] - centre), abs(ordered[low + count - 1] - centre))
