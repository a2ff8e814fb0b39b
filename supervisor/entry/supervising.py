"""`supervise()`: watch a training from its first step to its last, and give a complete record of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from supervisor.checkpoints.state import restore_rng, rng_state
from supervisor.entry.session import Session
from supervisor.entry.training import Evaluate, TrainFn, Training
from supervisor.journal import Recorder
from supervisor.policy import Policy
from supervisor.recording.report import Report


def supervise(
    train_fn: TrainFn | Training,
    *,
    model: nn.Module | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    data: Iterable[Any] | None = None,
    scheduler: LRScheduler | ReduceLROnPlateau | None = None,
    scaler: Any = None,  # noqa: ANN401 - a torch.amp.GradScaler, not yet available
    steps: int | None = None,
    epochs: int | None = None,
    accumulate: int = 1,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    policy: str | Path | Policy = "default",
    context: str | Mapping[str, Any] | None = None,
    tracking: str | Recorder | None = "mlflow",
    run_dir: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    progress: bool | None = None,
) -> Report:
    """Train under supervision and return the report.

    Args:
        train_fn: `train_fn(batch)` returns the loss as a scalar tensor, or a mapping whose `"loss"` is one; backward
            and step are the supervisor's. Or a `Training`, whose fields are these arguments; arguments given beside
            it replace its own.
        model: what is trained. It and the optimizer are changed in place.
        optimizer: a torch Optimizer, or several, stepped together.
        data: batches; iterated again where it can be, for as long as `steps` or `epochs` ask.
        scheduler: stepped once per optimizer step.
        scaler: not yet available.
        steps: optimizer steps to take.
        epochs: passes over the data; 1 where `steps` is not given either.
        accumulate: micro-batches per optimizer step; their losses are averaged.
        evaluate: a function without arguments that returns a loss (lower is better), or a mapping with `"loss"`.
        evaluate_every: steps between two evaluations; left out: once, at the end.
        policy: a shipped policy's name, the path of a YAML file, or a Policy.
        context: what is normal here, where the figures cannot tell: "gan", "rl", "contrastive", "finetune", or a
            mapping of `kind`, `frozen` (names or patterns of layers meant to stand still) and `warmup` (steps before
            plateau and instability are judged). It wins over the policy's; a NaN is never normal.
        tracking: "mlflow", None, or an object with the Recorder protocol.
        run_dir: folder of the journal and the figures; default `supervisor_runs/<run name>`.
        resume: not yet available.
        seed: seeds python, numpy and torch before the first step.
        progress: show a progress bar; left out: on a terminal only.

    Raises:
        UsageError: an argument does not fit, or `train_fn` returns no loss; nothing was changed.
        PolicyError: the policy is wrong, likewise.
        Exception: whatever `train_fn` raised, unchanged, after the record was closed.

    """
    arguments = {name: value for name, value in locals().items() if name != "train_fn"}
    if isinstance(train_fn, Training):
        defaults = {field.name: field.default for field in fields(Training)}
        given = {name: value for name, value in arguments.items() if value is not defaults[name]}
        training = replace(train_fn, **given)
    else:
        training = Training(train_fn, **arguments)
    training.check()
    before = rng_state(_device(training))
    try:
        _seed(training.seed)
        session = Session(replace(training, policy=training.declared_policy()), before)
    except BaseException:
        restore_rng(before)
        raise
    return session.train()


def _device(training: Training) -> torch.device:
    """Return the device of the model's first parameter."""
    assert training.model is not None
    return next((p.device for p in training.model.parameters()), torch.device("cpu"))


def _seed(seed: int | None) -> None:
    if seed is None:
        return
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - users' augmentations draw from the global one
    torch.manual_seed(seed)
