"""The data of a run: epochs over an iterable, grouped into the micro-batches of one optimizer step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import chain, count, islice
from typing import Any

from supervisor.entry.training import Training
from supervisor.errors import UsageError


def groups(data: Iterable[Any], *, steps: int | None, epochs: int | None, accumulate: int) -> Iterator[list[Any]]:
    """Yield lists of `accumulate` batches; a last, shorter one may remain at the end of the data.

    Data that can be iterated again is: `epochs` times, or for as long as `steps` need, else once. A one-shot
    iterator ends where it ends. The batches of a step are fetched before its first forward pass: data that draws
    random numbers does so in that order. Raises UsageError at once if there is no first batch.
    """
    stream = _stream(data, epochs if epochs is not None or steps is not None else 1)
    first = list(islice(stream, accumulate))
    if not first:
        message = "data: it is empty, there is no first batch. Was an iterator passed that is used up already?"
        raise UsageError(message)
    return chain([first], iter(lambda: list(islice(stream, accumulate)), []))


def planned_steps(training: Training) -> int | None:
    """Return how many optimizer steps a training will take, as far as it can be told beforehand."""
    if training.steps is not None:
        return training.steps
    length = len(training.data) if isinstance(training.data, Sized) else None
    return None if length is None else -(-length * (training.epochs or 1) // training.accumulate)


def _stream(data: Iterable[Any], epochs: int | None) -> Iterator[Any]:
    for epoch in count():
        if epoch == epochs:
            return
        batch_seen = False
        for batch in data:
            batch_seen = True
            yield batch
        if not batch_seen:
            return
