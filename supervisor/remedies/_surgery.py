"""What structural remedies share: the optimizer takes new parameters in, and a surgery can be taken back and redone.

New parameters join an existing param_group, so that a schedule that keeps a list by group stays right; the state of
all others survives bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer, SparseAdam

from supervisor.errors import RemedyRefused
from supervisor.records import Anatomy
from supervisor.remedies._keep import void
from supervisor.remedies._wrapping import Done, Step
from supervisor.run import Surgery, TrainingRun

Group = tuple[Optimizer, dict[str, Any]]


@dataclass(eq=False)
class _Join:
    """A new parameter becomes the last of an existing param_group."""

    optimizer: Optimizer
    group: dict[str, Any]
    parameter: nn.Parameter
    state: dict[str, Any] | None = None  # of the optimizer, while it is taken back

    def do(self) -> None:
        held = [*self.group["params"]]
        self.group["params"].append(self.parameter)
        if self.state is not None:
            self.optimizer.state[self.parameter] = self.state
        elif self.group.get("fused") and any("momentum_buffer" in self.optimizer.state.get(p, {}) for p in held):
            # fused SGD takes buffers of all or of none; from zero the first one is the gradient, as it would be
            self.optimizer.state[self.parameter]["momentum_buffer"] = torch.zeros_like(self.parameter)

    def undo(self) -> None:
        self.state = self.optimizer.state.pop(self.parameter, None)
        held = self.group["params"]
        del held[next(i for i, p in enumerate(held) if p is self.parameter)]


@dataclass(eq=False)
class _Told:
    """The run knows the model as it is now: at once, because a rung may go on to initialize for it."""

    run: TrainingRun
    anatomy: Anatomy
    new: tuple[nn.Parameter, ...]
    before: Anatomy = field(default_factory=lambda: Anatomy(()))

    def do(self) -> None:
        self.before, self.run.anatomy = self.run.anatomy, self.anatomy
        self.run.parameters = [*self.run.parameters, *self.new]

    def undo(self) -> None:
        new = {id(p) for p in self.new}
        self.run.anatomy = self.before
        self.run.parameters = [p for p in self.run.parameters if id(p) not in new]


def operated(
    run: TrainingRun, change: Mapping[str, Any], operate: Callable[[nn.Module, Mapping[str, Any]], Done], *,
    anatomy: Anatomy, grown: Mapping[str, nn.Module] | None = None, invisible: Callable[[], str] = lambda: "",
) -> Callable[[], None]:  # fmt: skip
    """Do the surgery that `change` describes on the model and its optimizer; return the undo of the whole.

    `anatomy` is that of the changed model; `grown` maps the path of each new module to the module whose param_group
    its parameters join. `invisible` runs the model once more where that is possible, and says what of the change
    took no part: then everything is taken back, and the remedy refused.
    """
    homes = {path: home(run, owner) for path, owner in (grown or {}).items()}
    done = operate(run.model, change)
    joins = [_Join(*homes[path], p) for path in homes for p in run.module(path).parameters()]
    more: list[Step] = [*joins, _Told(run, anatomy, tuple(join.parameter for join in joins))]
    Done(more).redo()
    surgery = Surgery(change, Done([*done.steps, *more]))
    complaint = invisible() if run.replay is not None else ""
    if complaint:
        surgery.undo()
        raise RemedyRefused(complaint)
    run.operate(surgery)
    unvoid = void(run, f"{change['kind']}: these gradients belong to the model as it was")

    def undo() -> None:
        if surgery in run.surgeries:  # else a rollback behind it has taken it back already
            surgery.undo()
            run.surgeries.remove(surgery)
        unvoid()

    return undo


def home(run: TrainingRun, owner: nn.Module) -> Group:
    """Return the optimizer and param_group that new vectors of `owner` join. Refused where none can take them.

    That of its bias, because groups without weight decay hold the vectors; else that of its weight, unless that group
    holds matrices only and another one the vectors (Muon beside AdamW; decay for matrices only).
    """
    own = sorted((p for p in owner.parameters() if p.requires_grad), key=lambda p: p.ndim)
    found = [group for p in own if (group := _group_of(run, p)) is not None]
    if not found:
        message = f"no optimizer holds a parameter of {type(owner).__name__}, so nothing would train what is added"
        raise RemedyRefused(message)
    near = found[0]
    if own[0].ndim > 1 and all(p.ndim > 1 for p in near[1]["params"]):
        near = _of_vectors(run, near) or near
    if isinstance(near[0], (LBFGS, SparseAdam, *_muons())):
        message = f"{type(near[0]).__name__} cannot take new vectors in during a run"
        raise RemedyRefused(message)
    return near


def _of_vectors(run: TrainingRun, near: Group) -> Group | None:
    """Return the group that holds vectors; of several one of the same optimizer and rate."""
    groups = [(o, g) for o in run.optimizers for g in o.param_groups if any(p.ndim <= 1 for p in g["params"])]
    alike = [(o, g) for o, g in groups if o is near[0] and g.get("lr") == near[1].get("lr")]
    return next(iter(alike or groups), None)


def _muons() -> tuple[type[Optimizer], ...]:
    """Return torch's optimizer for matrices alone, where torch has it."""
    found = getattr(torch.optim, "Muon", None)
    return () if found is None else (found,)


def _group_of(run: TrainingRun, parameter: nn.Parameter) -> Group | None:
    groups: Iterable[Group] = ((o, g) for o in run.optimizers for g in o.param_groups)
    return next(((o, g) for o, g in groups if any(p is parameter for p in g["params"])), None)
