"""The owned form: `train_fn(batch)` returns the loss, the supervisor does backward and step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from supervisor.checkpoints import BufferGuard
from supervisor.checkpoints.state import restore_rng, rng_state
from supervisor.entry.training import TrainFn, kind_of
from supervisor.errors import NotYetError, TrainStepError
from supervisor.run import TrainingRun
from supervisor.verification.branches import trial_passes

_OWN_BACKWARD: Final = (
    "train_fn: it calls backward() itself, but no optimizer step. Leave backward() to the supervisor and return "
    "the loss"
)


class OwnedForm:
    """Forward and backward over the micro-batches of one optimizer step."""

    def __init__(self, train_fn: TrainFn, run: TrainingRun) -> None:
        self.train_fn, self.run = train_fn, run
        self._first = True
        self._untouched = True  # no backward has run yet
        self.planned: int | None = None  # steps of the whole run, as far as known
        self.quick_score: Callable[[], float] = lambda: math.nan

    def compute(self, batches: list[Any]) -> list[torch.Tensor]:
        """Return the detached losses, one a micro-batch; the gradients hold their mean's."""
        self.run.drop_gradients()
        if self._first:
            with _refusing_user_steps():
                losses = [self._backward(batch, len(batches)) for batch in batches]
            if all(p.grad is None for p in self.run.parameters):
                message = (
                    "train_fn: backward() reached none of the parameters that the optimizer holds. Is the loss "
                    "computed from this model, and are its parameters not frozen?"
                )
                raise TrainStepError(message)
            self._first = False
            return losses
        return [self._backward(batch, len(batches)) for batch in batches]

    def replay(self, batches: list[Any]) -> torch.Tensor:
        """Run forward only, without gradients; buffers and random numbers return. Return the mean loss."""
        guard, random = BufferGuard(self.run.model), rng_state(self.run.device)
        try:
            with torch.no_grad(), trial_passes():
                losses = [_value_of(self.train_fn(batch)) for batch in batches]
        finally:
            guard.put_back()
            restore_rng(random)
        return torch.stack(losses).mean()

    def _backward(self, batch: Any, of: int) -> torch.Tensor:  # noqa: ANN401 - a batch may be anything
        loss = loss_of(self.train_fn(batch))
        if self._untouched and any(p.grad is not None for p in self.run.parameters):
            raise TrainStepError(_OWN_BACKWARD)  # also where the graph was kept, and a second backward would pass
        self._untouched = False
        self.run.before_backward(loss)
        share = loss if of == 1 else loss / of
        try:
            share.backward()
        except RuntimeError as error:
            if self._first and "second time" in str(error):
                raise TrainStepError(_OWN_BACKWARD) from error
            raise
        return loss.detach()


@contextmanager
def _refusing_user_steps() -> Iterator[None]:
    """Raise when the user's own code steps an optimizer: before the step changes anything."""

    def refuse(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:  # noqa: ANN401
        message = (
            "train_fn: it calls optimizer.step() itself. That form is not yet available in this version; leave "
            "backward() and step() to the supervisor and return the loss"
        )
        raise NotYetError(message)

    handle = register_optimizer_step_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


def loss_of(result: Any) -> torch.Tensor:  # noqa: ANN401 - what a user's function returned
    """Return the loss in what `train_fn` returned, or raise TrainStepError saying what is wrong with it."""
    loss = _value_of(result)
    if not loss.requires_grad:
        message = (
            "train_fn: returned a loss that needs no grad, so nothing can be learned from it. Return the loss "
            "itself, not loss.item() or loss.detach(), and do not compute it under torch.no_grad()"
        )
        raise TrainStepError(message)
    return loss


def _value_of(result: Any) -> torch.Tensor:  # noqa: ANN401 - as above
    """Return the scalar loss in what `train_fn` returned, whether or not it can be learned from."""
    loss = result.get("loss") if isinstance(result, Mapping) else result
    if not isinstance(loss, torch.Tensor):
        where = 'mapping whose "loss" is' if isinstance(result, Mapping) else "value"
        message = f"train_fn: returned a {where} {kind_of(loss)}; expected a scalar tensor. Add `return loss`"
        raise TrainStepError(message)
    if loss.numel() != 1:
        message = f"train_fn: returned a loss of shape {tuple(loss.shape)}; expected a scalar. Return loss.mean()"
        raise TrainStepError(message)
    return loss if loss.ndim == 0 else loss.reshape(())
