"""Replaces hidden activation functions that hold gradients back or let units die."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field
from torch import nn

from supervisor.activations import SILENT_AT_ZERO, SQUASHING
from supervisor.errors import RemedyRefused
from supervisor.records import Anatomy, Decision, Site
from supervisor.registry import REMEDIES
from supervisor.remedies._calls import Swap
from supervisor.remedies._keep import layer_module
from supervisor.remedies._replacing import Replace, at, prelu
from supervisor.remedies._surgery import operated
from supervisor.remedies._wrapping import Alter, Done, Step, alterations, perform, witnessing
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun

To = Literal["relu", "leaky_relu", "prelu", "elu", "selu", "gelu"]

Point = tuple[str, str, int | None]  # owner, function, which call (None: the module itself)


@REMEDIES.register("swap_activation")
@dataclass(frozen=True)
class SwapActivation:
    """Swap sigmoid, tanh and their like; for `dead_units` the functions that are zero over a half line.

    Gates and outputs stay as they are, so do the insides of `nn.LSTM` and its like, and a formula written by hand.
    Refused where no hidden activation fits.
    """

    to: Annotated[To, Field(description="the activation to use instead; prelu learns its slope")] = "relu"

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Swap every site that fits, as one surgery. Refused too where a pass does not show all of it."""
        points = _fitting(run.anatomy, decision, self.to)
        swapped = [site for site in run.anatomy.sites if points & _points(site)]
        change = _change(points, self.to, swapped)
        undo = operated(
            run, change, self.operate, anatomy=_renamed(run.anatomy, points, self.to),
            grown=_grown(run, change, swapped), invisible=lambda: _invisible(run, change),
        )  # fmt: skip
        return Effect({site.name: (site.function, self.to) for site in swapped}, undo)

    @staticmethod
    def operate(model: nn.Module, change: Mapping[str, Any]) -> Done:
        """Do the surgery that `change` describes; return what takes it back. Whole or not at all."""
        return perform(_steps(model, change))


def _steps(model: nn.Module, change: Mapping[str, Any]) -> Iterator[Step]:
    modules, calls, to = change["modules"], change["calls"], change["to"]
    if to not in get_args(To):
        message = f"{to!r} is no activation this version can put in"
        raise RemedyRefused(message)
    for path in modules:
        yield Replace(model, path, to)
    for entry in calls:
        owner, slopes = at(model, entry["owner"]), tuple(entry.get("slopes", ()))
        children = {name: prelu(model).train(owner.training) for name in dict.fromkeys(slopes)}
        yield Alter(owner, Swap(entry["function"], tuple(entry["calls"]), to, slopes), children)


def _points(site: Site) -> set[Point]:
    return {(site.owner, site.function, call) for call in site.calls or (None,)}


def _fitting(anatomy: Anatomy, decision: Decision, to: str) -> set[Point]:
    """Return where to swap. A place that also serves as gate or output is spared. Refused if nothing is left."""
    dying = decision.finding.pathology == "dead_units"
    if dying and to in SILENT_AT_ZERO:
        message = f"units die under {to} as well: use leaky_relu, prelu, elu, selu or gelu"
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


def _change(points: set[Point], to: str, sites: Iterable[Site]) -> dict[str, Any]:
    """Return the surgery as plain data. Each site of a prelu gets a slope of its own, a child of the owner."""
    modules = sorted(owner for owner, _, call in points if call is None)
    calls: dict[tuple[str, str], dict[int, str]] = {}
    for site in sites:
        for call in site.calls:
            name = f"prelu_{site.function}_{site.calls[0]}"
            calls.setdefault((site.owner, site.function), {}).setdefault(call, name)
    entries: list[dict[str, Any]] = []
    for (owner, function), found in sorted(calls.items()):
        mine = {call: found[call] for call in sorted(found) if (owner, function, call) in points}
        slopes = {"slopes": list(mine.values())} if to == "prelu" else {}
        entries.append({"owner": owner, "function": function, "calls": list(mine), **slopes})
    return {"kind": "swap_activation", "to": to, "modules": modules, "calls": entries}


def _grown(run: TrainingRun, change: Mapping[str, Any], sites: Iterable[Site]) -> dict[str, nn.Module]:
    """Return by path what holds a new slope, and the layer before it."""
    if change["to"] != "prelu":
        return {}
    grown: dict[str, nn.Module] = {}
    for site in sites:
        slope = f"{site.owner}.prelu_{site.function}_{site.calls[0]}".removeprefix(".") if site.calls else site.owner
        layer = layer_module(run, site.producer) if site.producer else None
        grown.setdefault(slope, layer if layer is not None else run.model)
    shown = {f"{e['owner']}.{name}".removeprefix(".") for e in change["calls"] for name in e["slopes"]}
    return {path: layer for path, layer in grown.items() if path in shown or path in change["modules"]}


def _invisible(run: TrainingRun, change: Mapping[str, Any]) -> str:
    """Run the batch again; say which of the new activations were not called."""
    assert run.replay is not None
    called: set[str] = set()
    with ExitStack() as hooks, witnessing() as seen:
        for path in change["modules"]:
            hooks.callback(run.module(path).register_forward_hook(lambda *_, path=path: called.add(path)).remove)
        run.replay()
    missing = [path for path in change["modules"] if path not in called]
    for entry in change["calls"]:
        own = alterations(run.module(entry["owner"]))
        mine = [swap for swap in own if isinstance(swap, Swap) and swap.function == entry["function"]]
        made = {call for call in entry["calls"] if any((swap, call) in seen for swap in mine)}
        calls = [call for call in entry["calls"] if call not in made and (not made or call < max(made))]
        missing += [f"{entry['owner']}:{entry['function']}:{call}" for call in calls]  # later ones: a shorter sequence
    return f"the swap is not visible in a pass: {', '.join(missing)} did not call {change['to']}" if missing else ""


def _renamed(anatomy: Anatomy, points: set[Point], to: str) -> Anatomy:
    sites = [dataclasses.replace(s, function=to) if points & _points(s) else s for s in anatomy.sites]
    return dataclasses.replace(anatomy, sites=tuple(sites))
