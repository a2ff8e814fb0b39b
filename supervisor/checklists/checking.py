"""`preflight()`: what can be known of a training before its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import nn
from torch.optim import Optimizer

from supervisor.checklists import data, design, guarding, initialization, matching, optimizing, passage, starting
from supervisor.checklists.first_pass import FirstPass, TrainFn, first_pass
from supervisor.checklists.result import Answer, Checklist, Item, inapplicable
from supervisor.checklists.untouched import Scheduler
from supervisor.entry.training import kind_of
from supervisor.errors import SupervisorError, UsageError
from supervisor.policy import Policy

CHECKS: Final[Mapping[str, tuple[Callable[[FirstPass], Answer], ...]]] = {
    "data": (data.inputs_finite, data.inputs_scale, data.targets_finite, data.targets_range),
    "loss": (matching.output_matches_loss, starting.loss_finite, starting.initial_loss),
    "initialization": (
        initialization.weight_scale,
        initialization.weight_chain,
        initialization.weight_mean,
        initialization.units_differ,
        initialization.biases,
        initialization.negative_biases,
        initialization.norm_parameters,
        initialization.recurrent_weights,
    ),
    "architecture": (design.activations, design.residuals, design.normalization),
    "first pass": (
        passage.train_step,
        passage.gradients_arrive,
        passage.gradient_decay,
        passage.signal,
        passage.dead_at_start,
        passage.saturated_at_start,
    ),
    "training": (
        optimizing.parameters_held,
        optimizing.parameters_foreign,
        optimizing.parameters_twice,
        optimizing.frozen,
        optimizing.learning_rate,
        optimizing.learning_rate_range,
        optimizing.first_step,
        guarding.train_mode,
        guarding.clipping,
        guarding.monitoring,
    ),
}
"""All questions, by topic. An item bears the name of its function."""


def preflight(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    batch: Any,  # noqa: ANN401 - a batch may be anything
    train_fn: TrainFn,
    *,
    scheduler: Scheduler = None,
    policy: str | Path | Policy = "default",
) -> Checklist:
    """Go through the initialization and training checklists on one batch, and change nothing.

    One forward and one backward pass are run and undone: parameters, gradients, buffers, random numbers, modes and
    optimizer state are afterwards what they were, bit for bit. What `train_fn` itself keeps elsewhere is not.

    Args:
        model: what is to be trained.
        optimizer: a torch Optimizer, or several.
        batch: one batch, as `train_fn` takes it.
        train_fn: `train_fn(batch)` returns the loss, or a mapping whose `"loss"` is one.
        scheduler: what warms the learning rate up, if anything does.
        policy: the policy it will be trained under: it clips and watches.

    Raises:
        UsageError: an argument does not fit, or `train_fn` returns no loss. What `train_fn` raises is an item.

    """
    optimizers = optimizers_of(model, optimizer)
    known = policy if isinstance(policy, Policy) else Policy.load(policy)
    now = first_pass(model, optimizers, batch, train_fn, known, scheduler)
    return Checklist(tuple(_items(now)), started=now.snapshot is not None)


def optimizers_of(model: nn.Module, optimizer: Optimizer | Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    """Return the optimizers as a tuple; UsageError where model or optimizer is none."""
    given: object = (optimizer,) if isinstance(optimizer, Optimizer) else optimizer
    module: object = model
    if not isinstance(module, nn.Module):
        message = f"model: expected a torch.nn.Module, got {kind_of(model)}. Pass the model that is trained"
        raise UsageError(message)
    if not isinstance(given, Sequence) or not given or not all(isinstance(o, Optimizer) for o in given):
        message = f"optimizer: expected a torch.optim.Optimizer or several, got {kind_of(optimizer)}"
        raise UsageError(message)
    return tuple(given)


def _items(now: FirstPass) -> Iterator[Item]:
    for topic, checks in CHECKS.items():
        for check in checks:
            answer = _answer(check, now)
            yield Item(
                answer.status, answer.reason, answer.advice, answer.where, answer.figures,
                name=check.__name__, topic=topic,
            )  # fmt: skip


def _answer(check: Callable[[FirstPass], Answer], now: FirstPass) -> Answer:
    """Ask one question. A model too unlike any other for it must not cost the answers to all others."""
    try:
        return check(now)
    except SupervisorError:
        raise
    except Exception as error:  # noqa: BLE001
        return inapplicable(f"could not be told of this model ({type(error).__name__}: {error})"[:200])
