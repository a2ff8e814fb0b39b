"""One exact state: everything that decides how the training goes on.

Parameters (those that only an optimizer holds, too), buffers (non-persistent too), gradients' absence, optimizer state
and groups, scheduler, scaler, random number generators, train/eval flags, requires_grad, a module's extra state, and
whatever is registered with the run. Restoring copies into the existing storage, never makes new Parameters, so that
references held by the user stay valid. What remedies set on the tick clock (multiplier, clip limit) is not part of a
state; surgeries done since are undone first, the last one first, and those undone since are done again.

Not part of it: where the data stands, plain attributes of modules and of the user's code, and generators that only
the user's code holds. Register them with the run, or `selftest` will name what they make differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from supervisor.checkpoints.buffers import Kept, buffers_of, once, put_buffers, with_copies
from supervisor.checkpoints.copies import Copies, Shelf, size
from supervisor.checkpoints.members import Homes, Members, load_into, members_of, parameters_of, state_of
from supervisor.checkpoints.optimizers import OptimizerState, keep_optimizer, put_optimizer, tensors_of
from supervisor.checkpoints.putting import Putter, fresh
from supervisor.checkpoints.rng import restore_rng, rng_state
from supervisor.checkpoints.trees import Keeper
from supervisor.run import Surgery, TrainingRun

__all__ = ["Checkpoint", "Hold", "capture", "restore", "restore_rng", "rng_state", "state_size"]


class Hold:
    """As long as it lives, the memory of its checkpoint is not used again."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run between two ticks. Values are copies, or kept trees of them."""

    tick: int
    step: int
    live: list[Tensor]  # all parameters; their copies are the first on the shelf
    homes: Homes
    buffers: Kept
    optimizers: dict[str, OptimizerState]
    others: dict[str, Any]  # scheduler, scaler, registered things: their state_dicts
    extra: list[tuple[nn.Module, Any]]  # get_extra_state() of modules that have one
    rng: dict[str, Any]
    modules: list[nn.Module]
    training: list[bool]  # of `modules`
    requires_grad: list[bool]  # of `live`
    surgeries: tuple[Surgery, ...]
    place: torch.device | None  # where the copies lie; None: each on its tensor's device
    shelf: Shelf  # all copies of tensors, in the order they were taken
    _holds: WeakSet[Hold] = field(default_factory=WeakSet)

    @property
    def parameters(self) -> list[tuple[Tensor, Tensor]]:
        """Each parameter, and the copy of it."""
        return list(zip(self.live, self.shelf.tensors, strict=False))

    @property
    def size(self) -> int:
        """Bytes of its copies."""
        return size(self.shelf.tensors)

    def hold(self) -> Hold:
        """Return what keeps this state's memory from being used again for as long as it lives."""
        hold = Hold()
        self._holds.add(hold)
        return hold

    @property
    def held(self) -> bool:
        """Whether somebody holds it."""
        return len(self._holds) > 0


def capture(run: TrainingRun, spare: Checkpoint | None = None, place: torch.device | None = None) -> Checkpoint:
    """Return a copy of the state of `run` that shares no storage with it.

    A `spare` state that nobody will restore any more gives its memory: fresh memory costs more than the copying. One
    that is held gives none. `place` is where the copies lie; None: each on its tensor's device.

    Raises UsageError where a lazy module has not seen its first batch.
    """
    members = members_of(run)
    modules, homes, parameters = parameters_of(members)
    copies = Copies(None if spare is None or spare.held else spare.shelf, place)
    keeper = Keeper(copies, {id(p) for p in parameters})
    places = buffers_of(modules)
    values = {id(p): p for p in parameters} | once(places)
    copies.several(values.values())
    kept = {name: keep_optimizer(o, keeper) for name, o in members.optimizers.items()}
    others = {name: keeper.keep(state_of(thing)) for name, thing in members.others.items()}
    extra = [(m, keeper.keep(m.get_extra_state())) for m in modules if _has_extra(m)]
    copies.fill()
    of = dict(zip(values, copies.shelf.tensors, strict=False))
    return Checkpoint(
        tick=run.clock.tick,
        step=run.clock.step,
        live=parameters,
        homes=homes,
        buffers=with_copies(places, of),
        optimizers=kept,
        others=others,
        extra=extra,
        rng=rng_state(run.device),
        modules=modules,
        training=[module.training for module in modules],
        requires_grad=[p.requires_grad for p in parameters],
        surgeries=tuple(run.surgeries),
        place=place,
        shelf=copies.shelf,
    )


def restore(run: TrainingRun, checkpoint: Checkpoint) -> None:
    """Put `run` back into the captured state, bit for bit. The tick goes on; the step goes back.

    A parameter that was replaced by another of its name since is hung back; gradients are gone.
    """
    run.undo_surgeries(checkpoint.surgeries)
    members, putter = members_of(run), Putter()
    _put_parameters(checkpoint)
    put_buffers(checkpoint.buffers)
    _put_others(members, checkpoint)
    for name, kept in checkpoint.optimizers.items():
        put_optimizer(members.optimizers[name], kept, putter)
    putter.fill()
    for module, state in checkpoint.extra:
        module.set_extra_state(fresh(state))
    for module, training in zip(checkpoint.modules, checkpoint.training, strict=True):
        if module.training is not training:
            module.training = training
    for parameter, requires_grad in zip(checkpoint.live, checkpoint.requires_grad, strict=True):
        if parameter.requires_grad is not requires_grad:
            parameter.requires_grad_(requires_grad)
        parameter.grad = None
    restore_rng(checkpoint.rng)
    run.clock.step = checkpoint.step


def _put_parameters(checkpoint: Checkpoint) -> None:
    checkpoint.homes.hang_back()
    for index in checkpoint.shelf.give_back(checkpoint.live, 0):
        parameter = checkpoint.live[index]
        parameter.data = checkpoint.shelf.tensors[index].to(parameter.device, copy=True)


def _put_others(members: Members, checkpoint: Checkpoint) -> None:
    """Restore what has a `load_state_dict` of its own: before the optimizers, whose groups a scheduler may write."""
    for name in checkpoint.others.keys() & members.others.keys():
        load_into(members.others[name], fresh(checkpoint.others[name]))


def _has_extra(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def state_size(run: TrainingRun) -> int:
    """Return about how many bytes a state of `run` takes: parameters, buffers and moments."""
    modules, _, parameters = parameters_of(members_of(run))
    buffers = (b for m in modules for b in m._buffers.values() if b is not None)  # noqa: SLF001
    moments = (t for o in members_of(run).optimizers.values() for t in tensors_of(o))
    return size(parameters) + size(buffers) + size(moments)
