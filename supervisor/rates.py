"""How an optimizer step is taken, and gradients are clipped, under what remedies have set.

The optimizer's groups are the user's: what is set acts only within a step, between the user's own hooks, and the
very same objects are put back behind it. So schedulers that multiply what they find, and those that recompute, both
go on as if nothing had happened, and none of them undoes a remedy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from numbers import Real
from typing import Any

import torch
from torch.optim import Optimizer, Rprop
from torch.utils.hooks import RemovableHandle

from supervisor.settings import Settings, lowered

Group = dict[str, Any]


def rate_of(group: Group) -> float:
    """Return the group's own learning rate; NaN where it keeps none as a number (Adafactor's relative step)."""
    return _number(group.get("lr"))


def decay_of(group: Group) -> float:
    """Return the group's own weight decay; NaN where it keeps none as a number."""
    return _number(group.get("weight_decay"))


def floor_of(group: Group, share: float) -> float:
    """Return `share` of the rate that a scheduler found when it began with the group; 0 where none has."""
    initial = _number(group.get("initial_lr"))
    return share * initial if initial > 0 else 0.0


def own_rates(optimizers: Iterable[Optimizer]) -> list[float]:
    """Return the groups' own rates above 0 that steer a step. Rprop's only sets the size of its first step."""
    groups = [group for o in optimizers if not isinstance(o, Rprop) for group in o.param_groups]
    return [rate for rate in map(rate_of, groups) if rate > 0]


def after_step(settings: Settings, loss: float, step: int, optimizers: Iterable[Optimizer]) -> Settings:
    """Return the settings after the step `step` was taken at the loss `loss`: a standing controller has been told."""
    if settings.on_plateau is None:
        return settings
    plateau, due = settings.on_plateau.told(loss, step)
    multiplier = settings.lr_multiplier
    if due:
        multiplier = lowered(multiplier, plateau.factor, plateau.min_lr, own_rates(optimizers))
    return replace(settings, on_plateau=plateau, lr_multiplier=multiplier)


@contextmanager
def in_force(optimizers: Sequence[Optimizer], settings: Settings, tick: int) -> Iterator[None]:
    """Let every step of `optimizers` inside see the settings; neutral ones touch nothing.

    The user's own step hooks see, and may write, the user's own values: a scheduler may live in one.
    """
    rate = settings.rate(tick)
    if rate == 1.0 and settings.decay is None and not settings.lr_floor:
        yield
        return
    with ExitStack() as stack:
        for optimizer in optimizers:
            stack.enter_context(_Inside(optimizer, rate, settings).between_hooks())
        yield


class _Inside:
    """Writes what is in force into one optimizer's groups, and steps aside whenever a hook of the user's runs.

    A subclass whose step calls its parent's runs every hook twice, the one pair of rounds within the other.
    """

    def __init__(self, optimizer: Optimizer, rate: float, settings: Settings) -> None:
        self.optimizer, self.rate, self.settings = optimizer, rate, settings
        self._undo: list[Callable[[], None]] = []
        self._depth = 0  # steps begun and not ended

    def write(self, *_: object) -> None:
        """Put what is in force into the groups."""
        writes = list(_writes(self.optimizer.param_groups, self.rate, self.settings))
        self._undo = [_written(*write) for write in writes]

    def put_back(self, *_: object) -> None:
        """Put the user's own objects back, the last one first."""
        while self._undo:
            self._undo.pop()()

    def _begin(self, *_: object) -> None:
        self._depth += 1
        self.put_back()

    def _end(self, *_: object) -> None:
        self._depth -= 1
        if self._depth:
            self.write()

    @contextmanager
    def between_hooks(self) -> Iterator[None]:
        """Let steps inside see what is in force, and the user's hooks around them the user's own values."""
        optimizer = self.optimizer
        befores: Any = getattr(optimizer, "_optimizer_step_pre_hooks", None)
        afters: Any = getattr(optimizer, "_optimizer_step_post_hooks", None)
        handles: list[RemovableHandle] = []
        try:
            if not (befores or afters):  # nobody to step aside for; a compiled step cannot have hooks that come and go
                self.write()
            else:
                pre, post = optimizer.register_step_pre_hook, optimizer.register_step_post_hook
                handles += [pre(self._begin), pre(self.write), post(self.put_back), post(self._end)]
                befores.move_to_end(handles[0].id, last=False)
                afters.move_to_end(handles[2].id, last=False)
            yield
        finally:
            self.put_back()
            for handle in handles:
                handle.remove()


def _writes(groups: Sequence[Group], rate: float, settings: Settings) -> Iterator[tuple[Group, str, Any]]:
    """Yield what is to be in force: (group, key, value). All of it is worked out first: groups may share a tensor."""
    for group in groups:
        if _is_number(group.get("lr")):
            lr, least = group["lr"] * rate, floor_of(group, settings.lr_floor)
            if rate != 1.0 or lr < least:
                yield group, "lr", max(lr, least)
        if settings.decay is not None and _is_number(group.get("weight_decay")):
            yield group, "weight_decay", settings.decay.of(group["weight_decay"])


def _written(group: Group, key: str, value: Any) -> Callable[[], None]:  # noqa: ANN401 - a number or a tensor
    """Give `key` a new value; return what brings the own one back.

    A tensor keeps its place, because a captured graph or a compiled step reads that place; beside one that needs a
    gradient, which may be needed for it, another one stands in.
    """
    own = group[key]
    if not isinstance(own, torch.Tensor) or own.requires_grad:
        group[key] = value
        return lambda: group.__setitem__(key, own)
    kept = own.clone()
    own.copy_(value)

    def put_back() -> None:
        own.copy_(kept)

    return put_back


def _number(value: Any) -> float:  # noqa: ANN401 - whatever the group holds
    return float(value) if _is_number(value) else math.nan


def _is_number(value: object) -> bool:
    return isinstance(value, (Real, torch.Tensor))


@torch.no_grad()
def exceeding(parameters: Iterable[torch.nn.Parameter], kind: str, limit: float, grad_norm: float) -> float | None:
    """Return the figure that a clip limits, the norm or the largest element, if it is above `limit`; else None.

    `grad_norm` is the norm measured before. No element is larger than it, so that below the limit nothing is read.
    """
    if not (math.isfinite(grad_norm) and grad_norm > limit):
        return None
    if kind == "norm":
        return grad_norm
    gradients = [_values(p) for p in parameters if p.grad is not None]
    largest = max((float(g.abs().max()) for g in gradients if g.numel()), default=0.0)
    return largest if largest > limit else None


@torch.no_grad()
def clip_(parameters: Iterable[torch.nn.Parameter], kind: str, limit: float, grad_norm: float) -> bool:
    """Clip the gradients in place if they exceed `limit`; return whether they did. What is not finite stays as it is.

    `grad_norm` is the norm measured before.
    """
    parameters = list(parameters)
    figure = exceeding(parameters, kind, limit, grad_norm)
    if figure is None:
        return False
    gradients = [_values(p) for p in parameters if p.grad is not None]
    if kind == "norm":
        torch._foreach_mul_(gradients, limit / figure)
    else:
        torch._foreach_clamp_max_(gradients, limit)
        torch._foreach_clamp_min_(gradients, -limit)
    return True


def _values(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Return the gradient's own storage; a sparse one is summed up first, row by row."""
    assert parameter.grad is not None
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad._values()  # noqa: SLF001 - values() is a copy's view that autograd guards
