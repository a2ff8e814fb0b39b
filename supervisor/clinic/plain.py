"""The training loop without a supervisor, in the order the owned form has: forward, backward, step, schedule.

Beside doing nothing it knows one simple guard that many write by hand: clip to norm 1, skip what is not finite.
"""

from __future__ import annotations

import math
import random
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from supervisor.entry import Training
from supervisor.entry.batches import groups
from supervisor.entry.evaluation import Evaluation
from supervisor.entry.owned import OwnedForm
from supervisor.entry.session import TICKS_PER_STEP
from supervisor.run import TrainingRun


class Hand(Protocol):
    """What may reach into a plain training."""

    def begin(self, run: TrainingRun) -> None:
        """Get to know the run before its first tick."""

    def tick(self) -> AbstractContextManager[None]:
        """Begin a tick; return the context of its forward and backward passes."""

    def allows(self, losses: list[Tensor], batches: list[Any]) -> bool:
        """Look at the gradients, and return whether the optimizer step is to be taken."""


class Hands:
    """Nobody reaches in."""

    def begin(self, run: TrainingRun) -> None:
        """Remember the run."""
        self.run = run

    def tick(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def allows(self, losses: list[Tensor], batches: list[Any]) -> bool:  # noqa: ARG002 - the protocol's signature
        """Take every step."""
        return True


class ClipAndSkip(Hands):
    """Clip the gradients to norm 1; take no step where loss or gradients are not finite."""

    def allows(self, losses: list[Tensor], batches: list[Any]) -> bool:  # noqa: ARG002
        """Clip, and return whether all is finite."""
        if not math.isfinite(grad_norm(self.run)) or not all(bool(loss.isfinite()) for loss in losses):
            return False
        torch.nn.utils.clip_grad_norm_(self.run.parameters, 1.0)
        return True


def train(training: Training, hand: Hand | None = None) -> tuple[int, int, float]:
    """Train to the end; return ticks, steps and seconds of this process.

    It ends as a supervised one does: after `steps`, with the data, or when it only repeats itself.
    """
    assert training.model is not None
    assert training.data is not None
    seed_all(training.seed)
    run = TrainingRun(training.model, training.optimizers, training.scheduler)
    form, hand = OwnedForm(training.train_fn, run), hand or Hands()
    evaluation = Evaluation(training.evaluate, training.evaluate_every)
    batches = groups(training.data, steps=training.steps, epochs=training.epochs, accumulate=training.accumulate)
    hand.begin(run)
    began = time.process_time()
    for group in batches:
        run.clock.tick += 1
        run.replay = partial(form.replay, group)
        with hand.tick():
            losses = form.compute(group)
        if hand.allows(losses, group):
            run.take_step(float(torch.stack(losses).mean()))
        if evaluation.due(run.clock.step):
            evaluation.evaluate(run.clock)
        if _over(training, run):
            break
    return run.clock.tick, run.clock.step, time.process_time() - began


def _over(training: Training, run: TrainingRun) -> bool:
    steps, clock = training.steps, run.clock
    return steps is not None and (clock.step >= steps or clock.tick > TICKS_PER_STEP * steps)


def grad_norm(run: TrainingRun) -> float:
    """Return the L2 norm over all gradients; NaN or Inf where one is."""
    gradients = [p.grad for p in run.parameters if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def seed_all(seed: int | None) -> None:
    """Seed python, numpy and torch, as `supervise(seed=)` does; None leaves them as they are."""
    if seed is None:
        return
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a case's augmentations may draw from the global one
    torch.manual_seed(seed)
