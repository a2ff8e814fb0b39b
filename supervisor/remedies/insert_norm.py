"""Normalizes what hidden layers hand to their activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from supervisor.errors import RemedyRefused
from supervisor.records import Anatomy, Decision, Layer
from supervisor.registry import REMEDIES
from supervisor.remedies._fresh import NORMS
from supervisor.remedies._keep import layer_module
from supervisor.remedies._passes import Call, Trace
from supervisor.remedies._replacing import at
from supervisor.remedies._surgery import operated
from supervisor.remedies._trace import seen_once_more
from supervisor.remedies._wrapping import Alter, Done, alterations, free_name, perform, witness, witnessing
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun

Kind = Literal["batch", "layer", "group"]

SMALL: Final = 16  # examples; below, batch statistics are too noisy (Wu & He, 2018, figure 1)
CHANNELS: Final = 4  # in a group at least
GROUPS: Final = 32  # at most (Wu & He, 2018)


@dataclass(frozen=True, eq=False)
class _Normalize:
    """The child `norm` normalizes the module's output."""

    norm: str

    def around(self, module: nn.Module, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        witness(self)
        return module.get_submodule(self.norm)(forward(*args, **kwargs))


@REMEDIES.register("insert_norm")
@dataclass(frozen=True)
class InsertNorm:
    """Put a neutral norm (weight 1, bias 0) between hidden Linear and Conv layers and their activations.

    BatchNorm (Ioffe & Szegedy, 2015) behind convolutions, GroupNorm (Wu & He, 2018) where batches are small, LayerNorm
    (Ba et al., 2016) elsewhere; what the model uses already goes first. In an MLP the last, shorter batch of an epoch
    may hold a few examples only, whose batch statistics would blow gradients up.
    The function changes: what was far too small or too large becomes of unit size. Spared are outputs, gates, frozen
    layers, layers that are normalized already, and those inside torch's own attention and transformer layers.
    """

    kind: Annotated[
        Literal["auto", "batch", "layer", "group"], Field(description="which norm; auto: by layer, model and batch")
    ] = "auto"

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Insert the norms as one surgery. Refused where no layer fits."""
        trace = seen_once_more(run)
        kinds = {name: self._kind(run, name, trace) for name in _fitting(run, trace)}
        entries = [_entry(run.model, name, kind) for name, kind in kinds.items() if kind is not None]
        if not entries:
            message = "no hidden Linear or Conv layer hands its output to an activation without being normalized"
            raise RemedyRefused(message)
        change = {"kind": "insert_norm", "norms": entries}
        grown = {f"{entry['layer']}.{entry['name']}": run.module(entry["layer"]) for entry in entries}
        undo = operated(
            run, change, self.operate, grown=grown,
            anatomy=_grown(run.anatomy, entries), invisible=lambda: _invisible(run, entries),
        )  # fmt: skip
        return Effect({entry["layer"]: ("not normalized", entry["norm"]) for entry in entries}, undo)

    @staticmethod
    def operate(model: nn.Module, change: Mapping[str, Any]) -> Done:
        """Do the surgery that `change` describes; return what takes it back. Whole or not at all."""
        return perform(_steps(model, change["norms"]))

    def _kind(self, run: TrainingRun, name: str, trace: Trace | None) -> Kind | None:
        """Return which norm fits behind the layer `name`, None where the one asked for does not."""
        layer, calls = run.module(name), trace.of(name) if trace is not None else []
        conv = isinstance(layer, _ConvNd)
        dims = len(layer.kernel_size) + 2 if isinstance(layer, _ConvNd) else 2
        batched = all(call.output.ndim == dims for call in calls)
        once = trace is None or not trace.repeated(layer.weight)  # type: ignore[arg-type]
        kind: Kind = _auto(run, conv=conv, calls=calls, once=once and batched) if self.kind == "auto" else self.kind
        if kind == "layer" and conv:
            kind = "group"
        if kind == "group" and not conv:
            kind = "layer"
        return kind if batched or kind == "layer" else None


def _auto(run: TrainingRun, *, conv: bool, calls: list[Call], once: bool) -> Kind:
    """Return the norm for a layer. `once`: batch statistics make sense there, one call, one vector an example."""
    own = [type(m) for m in run.model.modules() if isinstance(m, NORMS)]
    if own and not any(issubclass(kind, _NormBase) for kind in own):
        return "group" if conv else "layer"
    if not conv:
        return "batch" if own and once else "layer"
    smallest = min((call.output.shape[0] for call in calls), default=SMALL)
    return "group" if not once or smallest < SMALL else "batch"


def _fitting(run: TrainingRun, trace: Trace | None) -> Iterator[str]:
    """Yield the layers to normalize, in the order of the forward pass."""
    anatomy, trained = run.anatomy, {id(p) for p in run.parameters}
    hidden = {site.producer for site in anatomy.sites if site.hidden and not site.gate}
    spared = {site.producer for site in anatomy.sites if site.gate or not site.hidden}
    names = [layer.name for layer in anatomy.layers]
    for place, name in enumerate(names):
        layer = layer_module(run, name)
        if not isinstance(layer, (nn.Linear, _ConvNd)) or layer is run.model or not _plain(run.model, name):
            continue
        if {id(p) for p in layer.parameters(recurse=False)} & trained and alterations(layer) == ():
            fits = name in hidden - spared and not _neighbours(run, names, place)
            if fits if trace is None else name not in spared and _free(trace, name):
                yield name


def _plain(model: nn.Module, name: str) -> bool:
    """Whether the layer is called through its forward: torch's own attention reads its children's weights."""
    parent = model.get_submodule(name.rpartition(".")[0])
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    return isinstance(parent, containers) or not type(parent).__module__.startswith("torch.nn.modules.")


def _neighbours(run: TrainingRun, names: list[str], place: int) -> bool:
    """Whether the layer behind is a norm, or the one before with no activation between: what the order can tell."""
    read = any(names[place] in site.consumers for site in run.anatomy.sites)
    beside = names[place + 1 : place + 2] + (names[max(0, place - 1) : place] if not read else [])
    return any(isinstance(layer_module(run, name), NORMS) for name in beside)


def _free(trace: Trace, name: str) -> bool:
    """Whether an activation and later weights take the output of the layer, and no norm is beside it."""
    bits = sum(call.bit for call in trace.of(name))
    taken = any(applied.left & bits for applied in trace.applied)
    return taken and bool(trace.read & bits) and not bits & (trace.normed | trace.after_norm | trace.gated)


def _entry(model: nn.Module, name: str, kind: Kind) -> dict[str, Any]:
    """Return one insertion as plain data."""
    layer = model.get_submodule(name)
    spelled = {"layer": "LayerNorm", "group": "GroupNorm"}.get(kind, "")
    if kind == "batch":
        spelled = f"BatchNorm{len(layer.kernel_size) if isinstance(layer, _ConvNd) else 1}d"
    entry: dict[str, Any] = {"layer": name, "name": free_name(layer, "norm"), "norm": spelled, "units": _units(layer)}
    if kind == "group":
        entry["groups"] = max(
            g for g in range(1, GROUPS + 1) if entry["units"] % g == 0 and (g == 1 or entry["units"] >= CHANNELS * g)
        )
    return entry


def _units(layer: nn.Module) -> int:
    return int(layer.out_channels if isinstance(layer, _ConvNd) else getattr(layer, "out_features", 0))


def _steps(model: nn.Module, entries: list[Mapping[str, Any]]) -> Iterator[Alter]:
    for entry in entries:
        layer = at(model, entry["layer"])
        if not isinstance(layer, (nn.Linear, _ConvNd)) or _units(layer) != entry["units"]:
            message = f"{entry['layer']} is {layer}, not a Linear or Conv layer of {entry['units']} units"
            raise RemedyRefused(message)
        name: str = entry["name"]
        yield Alter(layer, _Normalize(name), {name: _norm(layer, entry)})


def _norm(layer: nn.Linear | _ConvNd, entry: Mapping[str, Any]) -> nn.Module:
    """Return the new norm, on the device, of the type and in the mode of its layer."""
    if entry["norm"] not in {"LayerNorm", "GroupNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"}:
        message = f"{entry['norm']!r} is no norm this version knows"
        raise RemedyRefused(message)
    shape = (entry["groups"], entry["units"]) if entry["norm"] == "GroupNorm" else (entry["units"],)
    norm: nn.Module = getattr(nn, entry["norm"])(*shape, device=layer.weight.device, dtype=layer.weight.dtype)
    return norm.train(layer.training)


def _grown(anatomy: Anatomy, entries: list[dict[str, Any]]) -> Anatomy:
    """Return the anatomy with each norm behind its layer."""
    new = {e["layer"]: Layer(f"{e['layer']}.{e['name']}", "norm", 2 * e["units"]) for e in entries}
    layers = (layer for old in anatomy.layers for layer in (old, new.get(old.name)) if layer is not None)
    return dataclasses.replace(anatomy, layers=tuple(layers))


def _invisible(run: TrainingRun, entries: list[dict[str, Any]]) -> str:
    """Run the batch again; say which norms took no part."""
    assert run.replay is not None
    with witnessing() as seen:
        run.replay()
    layers = {entry["layer"]: run.module(entry["layer"]) for entry in entries}
    missing = [name for name, layer in layers.items() if not seen.intersection(alterations(layer))]
    return f"the norm is not visible behind {', '.join(missing)}: their forward is not called" if missing else ""
