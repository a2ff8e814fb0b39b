"""Replaces hidden activation functions that hold gradients back or let units die."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from torch import nn

from supervisor.activations import SILENT_AT_ZERO, SQUASHING, is_activation_module
from supervisor.errors import RemedyRefused
from supervisor.records import Anatomy, Decision, Site
from supervisor.registry import REMEDIES
from supervisor.remedies._calls import Swap, swap_calls
from supervisor.remedies._keep import void
from supervisor.remedies.base import Effect
from supervisor.run import Surgery, TrainingRun

MODULES: Final[dict[str, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}
Point = tuple[str, str, int | None]  # owner, function, which call (None: the module itself)


@REMEDIES.register("swap_activation")
@dataclass(frozen=True)
class SwapActivation:
    """Swap sigmoid, tanh and their like; for `dead_units` the functions that are zero over a half line.

    Gates and outputs stay as they are, so do the insides of `nn.LSTM` and its like, and a formula written by hand.
    Refused where no hidden activation fits.
    """

    to: Annotated[Literal["relu", "leaky_relu", "elu", "gelu"], Field(description="the activation to use instead")] = (
        "relu"
    )

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Swap every site that fits, as one surgery."""
        points = _fitting(run.anatomy, decision, self.to)
        change = _change(points, self.to)
        before = run.anatomy
        close = self.operate(run.model, change)
        run.anatomy = _renamed(before, points, self.to)  # at once: the rung may go on to initialize for it

        def take_back() -> None:
            close()
            run.anatomy = before

        surgery = Surgery(change, take_back)
        run.operate(surgery)
        unvoid = void(run, "the activation functions are new: these gradients belong to the old ones")

        def undo() -> None:
            if surgery in run.surgeries:  # else a rollback behind it has taken it back already
                surgery.undo()
                run.surgeries.remove(surgery)
            unvoid()

        swapped = [site for site in before.sites if points & _points(site)]
        return Effect({site.name: (site.function, self.to) for site in swapped}, undo)

    @staticmethod
    def operate(model: nn.Module, change: Mapping[str, Any]) -> Callable[[], None]:
        """Do the surgery that `change` describes; return what takes it back. Whole or not at all."""
        with ExitStack() as undo:
            for path in change["modules"]:
                undo.callback(_replace(model, path, change["to"]))
            for entry in change["calls"]:
                swap = Swap(entry["function"], tuple(entry["calls"]), change["to"])
                undo.callback(swap_calls(_at(model, entry["owner"]), swap))
            done = undo.pop_all()
        return done.close


def _points(site: Site) -> set[Point]:
    return {(site.owner, site.function, call) for call in site.calls or (None,)}


def _fitting(anatomy: Anatomy, decision: Decision, to: str) -> set[Point]:
    """Return where to swap. A place that also serves as gate or output is spared. Refused if nothing is left."""
    dying = decision.finding.pathology == "dead_units"
    if dying and to in SILENT_AT_ZERO:
        message = f"units die under {to} as well: use leaky_relu, elu or gelu"
        raise RemedyRefused(message)
    family = SILENT_AT_ZERO if dying else SQUASHING
    fit = [site for site in anatomy.sites if site.hidden and not site.gate and site.function in family]
    if dying:
        fit = [site for site in fit if site.producer in decision.finding.where] or fit
    spared = [site for site in anatomy.sites if site.gate or not site.hidden]
    points = {p for site in fit for p in _points(site)} - {p for site in spared for p in _points(site)}
    if not points:
        raise RemedyRefused(_nothing_fits(anatomy, family))
    return points


def _nothing_fits(anatomy: Anatomy, family: Iterable[str]) -> str:
    """Say what there is instead."""
    roles = {site.name: "gate" if site.gate else "hidden" if site.hidden else "output" for site in anatomy.sites}
    seen = ", ".join(f"{site.name} ({site.function}, {roles[site.name]})" for site in anatomy.sites[:8])
    return (
        f"no hidden {', '.join(sorted(family))} is applied as a module or by a torch function; seen: {seen or 'none'}. "
        "A formula written by hand, and the inside of nn.LSTM and its like, cannot be swapped"
    )


def _change(points: set[Point], to: str) -> dict[str, Any]:
    """Return the surgery as plain data."""
    modules = sorted(owner for owner, _, call in points if call is None)
    calls: dict[tuple[str, str], list[int]] = {}
    for owner, function, call in points:
        if call is not None:
            calls.setdefault((owner, function), []).append(call)
    entries = [{"owner": o, "function": f, "calls": sorted(found)} for (o, f), found in sorted(calls.items())]
    return {"kind": "swap_activation", "to": to, "modules": modules, "calls": entries}


def _renamed(anatomy: Anatomy, points: set[Point], to: str) -> Anatomy:
    sites = [dataclasses.replace(s, function=to) if points & _points(s) else s for s in anatomy.sites]
    return dataclasses.replace(anatomy, sites=tuple(sites))


def _at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        message = f"the model has no module {path!r}"
        raise RemedyRefused(message) from None


def _replace(model: nn.Module, path: str, to: str) -> Callable[[], None]:
    """Put another activation wherever the module at `path` hangs, with its hooks; return what puts it back."""
    old = _at(model, path)
    if old is model or not is_activation_module(old):
        message = f"{path or 'the model itself'} is {type(old).__name__}, not an activation module inside the model"
        raise RemedyRefused(message)
    in_place = to != "gelu" and getattr(old, "inplace", False) is True
    new = MODULES[to](inplace=True) if in_place else MODULES[to]()
    new.train(old.training)
    vars(new).update({key: value for key, value in vars(old).items() if "hooks" in key})
    holders = [(m, name) for m in model.modules() for name, child in m._modules.items() if child is old]  # noqa: SLF001
    for holder, name in holders:
        holder._modules[name] = new  # noqa: SLF001 - as nn.Module.__setattr__ does, for any name

    def undo() -> None:
        for holder, name in holders:
            if holder._modules.get(name) is new:  # noqa: SLF001
                holder._modules[name] = old  # noqa: SLF001
        old.train(new.training)

    return undo
