"""`selftest()`: does this training do the same again from the same state? Rollbacks and trials rest on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from supervisor.checkpoints import Checkpoint, capture, named, restore
from supervisor.checkpoints.copies import Copies
from supervisor.checkpoints.hidden import fingerprint, hidden_state
from supervisor.checkpoints.naming import leaves
from supervisor.checkpoints.putting import Putter
from supervisor.checkpoints.rng import restore_rng, rng_state
from supervisor.checkpoints.trees import Keeper
from supervisor.entry.batches import groups
from supervisor.entry.owned import OwnedForm
from supervisor.entry.training import TrainFn, Training
from supervisor.errors import UsageError
from supervisor.run import TrainingRun
from supervisor.verification.branches import trial_passes

Prints = dict[str, str]
"""Everything there is after a step, its loss first: name and fingerprint."""

_ADVICE: Final = {
    "loss": "train_fn gave another loss for the same batch in the same state. It keeps a state of its own (a counter, "
    "a cache, the clock), draws from a generator of its own, or runs a kernel that is not deterministic. Register what "
    "has a state, draw from torch's global generator, leave such code out while supervisor.in_trial() is true, or call "
    "torch.use_deterministic_algorithms(True)",
    "rng": "the losses agree, but train_fn drew other random numbers: how many it draws depends on a state of its own",
    "batch": "train_fn writes into its batch, so it cannot be run on it again. Work on a copy: x = x.clone()",
    "restored": "restoring did not bring it back: does its load_state_dict put back all that its state_dict gives?",
    "state": "the losses agree, but the steps did not: backward or optimizer.step() is not deterministic, or keeps a "
    "state that lies outside the optimizer. torch.use_deterministic_algorithms(True) tells which kernel it may be",
}


@dataclass(frozen=True)
class SelftestResult:
    """Whether the same steps from the same state did the same, bit for bit."""

    ok: bool
    steps: int  # run twice
    first_difference: str = ""  # the first state that differed, by name
    detail: str = ""  # when, and what to do about it
    suspects: tuple[str, ...] = ()  # what train_fn changed that is no part of a checkpoint

    def summary(self) -> str:
        """Return it as a text for a person."""
        if self.ok:
            return f"selftest passed: {self.steps} steps, restored and run again, were bit-identical"
        lines = [f"selftest failed: {self.first_difference} differs", self.detail]
        if self.suspects:
            lines.append(f"Changed meanwhile, and no part of a checkpoint: {', '.join(self.suspects)}")
        return "\n".join(lines)


def selftest(
    train_fn: TrainFn | Training,
    *,
    model: nn.Module | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    data: Iterable[Any] | None = None,
    scheduler: LRScheduler | ReduceLROnPlateau | None = None,
    registered: Mapping[str, Any] | None = None,
    steps: int = 5,
) -> SelftestResult:
    """Run `steps` steps, restore, run them again on the same batches, and name the first state that differs.

    Afterwards everything a checkpoint holds is as it was before, gradients too; batches drawn from an iterator that
    cannot be iterated again are gone, and what train_fn changes besides (see `suspects`) stays changed. `registered`
    are things with a state of their own, by name: an EMA, a sampler, a generator. While it runs,
    `supervisor.in_trial()` is true. Memory: three copies of the state. Takes the arguments of `supervise()`, or a
    `Training` and arguments that replace its own.

    Raises UsageError where an argument does not fit or train_fn returns no loss, and whatever train_fn raises.
    """
    arguments: dict[str, Any] = {"model": model, "optimizer": optimizer, "data": data, "scheduler": scheduler}
    given = {name: value for name, value in arguments.items() if value is not None}
    training = replace(train_fn, **given) if isinstance(train_fn, Training) else Training(train_fn, **given)
    training.check()
    if steps < 1:
        message = f"steps: expected a whole number of at least 1, got {steps!r}"
        raise UsageError(message)
    assert training.model is not None
    assert training.data is not None
    run = TrainingRun(training.model, training.optimizers, training.scheduler)
    vars(run)["registered"] = dict(registered or {}) | _generators(training.data)
    with _untouched(run), trial_passes():
        stream = groups(training.data, steps=steps, epochs=None, accumulate=training.accumulate)
        return _Twice(training, run, list(islice(stream, steps))).compare()


@contextmanager
def _untouched(run: TrainingRun) -> Iterator[None]:
    """Put everything back on the way out, the very same gradients too, and the numbers that drawing batches took."""
    gradients = [(p, p.grad) for o in run.optimizers for g in o.param_groups for p in g["params"]]
    gradients += [(p, p.grad) for p in run.model.parameters()]
    before, random = capture(run), rng_state(run.device)
    try:
        yield
    finally:
        restore(run, before)
        restore_rng(random)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _generators(data: Iterable[Any]) -> dict[str, torch.Generator]:
    """Return the generators that a DataLoader and its sampler draw from."""
    places = {"data.generator": data, "data.sampler.generator": getattr(data, "sampler", None)}
    held = {name: getattr(place, "generator", None) for name, place in places.items()}
    return {name: one for name, one in held.items() if isinstance(one, torch.Generator)}


class _Batches:
    """A copy of batches as they were drawn."""

    def __init__(self, live: list[list[Any]]) -> None:
        copies = Copies()
        self._live, self._kept = live, Keeper(copies, set()).keep(live)
        copies.fill()

    def prints(self) -> Prints:
        return {name: fingerprint(value) for name, value in leaves(self._kept, "batch ", {})}

    def put_back(self) -> None:
        putter = Putter()
        putter.put(self._live, self._kept)
        putter.fill()


class _Twice:
    """The same steps, two times."""

    def __init__(self, training: Training, run: TrainingRun, batches: list[list[Any]]) -> None:
        self.training, self.run, self.batches = training, run, batches
        self.form = OwnedForm(training.train_fn, run)
        self._spare: Checkpoint | None = None

    def compare(self) -> SelftestResult:
        """Run the steps, restore, run them again, and return the first difference."""
        start, before, drawn, hidden = capture(self.run), self._state(), _Batches(self.batches), self._hidden()
        first = [self._step(group) for group in self.batches]
        written = _first(drawn.prints(), _Batches(self.batches).prints())
        suspects = tuple(name for name, value in self._hidden().items() if hidden.get(name) != value)
        drawn.put_back()
        restore(self.run, start)
        name, why = written, _ADVICE["batch"]
        if not name:
            name, why = _first(before, self._state()), _ADVICE["restored"]
        if not name:
            name, why = self._again(first)
        if not name:
            return SelftestResult(ok=True, steps=len(self.batches))
        return SelftestResult(False, len(self.batches), name, why, suspects)  # noqa: FBT003

    def _again(self, first: list[Prints]) -> tuple[str, str]:
        """Return the first name that differs from the `first` time, and why that may be."""
        for index, (group, was) in enumerate(zip(self.batches, first, strict=True), start=1):
            if name := _first(was, self._step(group)):
                kind = name.partition(" ")[0]
                return name, f"In step {index} of {len(first)}: {_ADVICE.get(kind, _ADVICE['state'])}"
        return "", ""

    def _step(self, group: list[Any]) -> Prints:
        self.run.clock.tick += 1
        losses = torch.stack(self.form.compute(group))
        self.run.take_step(float(losses.mean()))
        return {"loss": fingerprint(losses), **self._state()}

    def _state(self) -> Prints:
        self._spare = capture(self.run, self._spare)
        return {name: fingerprint(value) for name, value in named(self.run, self._spare)}

    def _hidden(self) -> Prints:
        return hidden_state(self.training.train_fn, self.run.model)


def _first(a: Prints, b: Prints) -> str:
    """Return the first name whose values differ, or that only one has; nothing where all agree."""
    return next((name for name in {**a, **b} if a.get(name) != b.get(name)), "")
