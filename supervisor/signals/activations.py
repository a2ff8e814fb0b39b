"""Watches the forward pass of a sampled tick: where activations are applied, and which units stay silent.

One mechanism sees module activations (`nn.ReLU`) and functional ones (`F.relu`, `x.sigmoid()`) alike: a
TorchFunctionMode around the forward, with torch's global module hooks telling whose forward is running. Both
are installed on sampled ticks only, so nothing hangs on the modules: copies and saved models carry nothing along,
and the ticks in between cost nothing.

While it watches, tensors carry two tags: the layer they stem from, and the activations whose units they still
show. An activation whose tag reaches a weight is hidden; one whose output is multiplied by another activation's
or layer's output is a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from supervisor.activations import MULTIPLICATIONS, SILENT_AT_ZERO, function_name, is_activation_module
from supervisor.records import SILENCE_LENGTHS, LayerKind, Site

Key = tuple[str, str, str | None]  # owner, function, producer


@dataclass
class _Watched:
    """One site while the forward runs, and the silence of its units over the samples."""

    key: Key
    module: bool  # an activation module, not a functional call
    calls: set[int] = field(default_factory=set)
    consumers: dict[str, None] = field(default_factory=dict)
    gate: bool = False
    units: int = 0
    awake: torch.Tensor | None = None  # (units,) bool, this sample
    silent_for: torch.Tensor | None = None  # (units,) int32, samples in a row
    zeros: torch.Tensor | None = None  # 0-dim, this sample

    def take(self, out: torch.Tensor, unit_dim: int) -> None:
        """Take in one output of the activation."""
        self.units = out.shape[unit_dim]
        zero = out == 0
        self.zeros = zero.float().mean()
        if self.key[1] in SILENT_AT_ZERO:
            awake = (~zero).movedim(unit_dim, -1).reshape(-1, self.units).any(0)
            same = self.awake is not None and self.awake.shape == awake.shape
            self.awake = self.awake | awake if same and self.awake is not None else awake

    def close_sample(self) -> None:
        """Count the silence of this sample."""
        if self.awake is None:
            return
        if self.silent_for is None or self.silent_for.shape != self.awake.shape:
            self.silent_for = torch.zeros_like(self.awake, dtype=torch.int32)
        self.silent_for = torch.where(self.awake, 0, self.silent_for + 1)
        self.awake = None


@dataclass
class _Frame:
    """A module whose forward is running."""

    path: str
    activation: bool
    counts: dict[str, int] = field(default_factory=dict)


class _Watch(TorchFunctionMode):
    def __init__(self, probe: ActivationProbe) -> None:
        super().__init__()
        self.probe = probe

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns  # fmt: skip
        out = func(*args, **(kwargs or {}))
        self.probe.saw(func, args, kwargs or {}, out)
        return out


class ActivationProbe:
    """The sites of a model, learned and measured on sampled forwards."""

    def __init__(self, model: nn.Module, owner_of: dict[int, str], kinds: dict[str, LayerKind]) -> None:
        """`owner_of` maps id(parameter) to its layer's name; `kinds` a layer's name to its kind."""
        self.model, self.owner_of, self.kinds = model, owner_of, kinds
        self.layer_order: dict[str, None] = {}
        self._watched: dict[Key, _Watched] = {}
        self._stack: list[_Frame] = []
        self._paths: dict[int, str] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward passes inside. Torch's global hooks are removed on every way out."""
        self._paths = {id(module): path for path, module in self.model.named_modules()}
        self._stack = [_Frame("", activation=False)]
        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            stack.enter_context(_Watch(self))
            yield
        for site in self._watched.values():
            site.close_sample()

    def forget(self) -> None:
        """Learn the sites anew: after a surgery."""
        self._watched.clear()

    def _enter(self, module: nn.Module, _inputs: Any) -> None:  # noqa: ANN401
        path = self._paths.get(id(module), self._stack[-1].path)
        self._stack.append(_Frame(path, activation=is_activation_module(module)))

    def _leave(self, _module: nn.Module, _inputs: Any, _out: Any) -> None:  # noqa: ANN401
        self._stack.pop()

    def saw(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:  # noqa: ANN401
        """Take in one call of the forward pass."""
        inputs = [t for t in _tensors((args, tuple(kwargs.values()))) if isinstance(t, torch.Tensor)]
        outputs = [t for t in _tensors((out,)) if isinstance(t, torch.Tensor)]
        if not outputs:
            return
        used = [t for t in inputs if id(t) in self.owner_of]
        for t in used:
            self.layer_order.setdefault(self.owner_of[id(t)])
        layer = next((self.owner_of[id(t)] for t in used if t.ndim > 1), None)
        sites = {key for t in inputs for key in getattr(t, "_supervisor_sites", ())}
        producer: str | None = next((p for t in inputs if (p := getattr(t, "_supervisor_layer", None))), None)
        if layer is not None:
            self._consumed(sites, layer)
            sites, producer = set(), layer
        elif func in MULTIPLICATIONS:
            self._gated(inputs)
        function = function_name(func, args, kwargs)
        if function is not None and outputs[0].is_floating_point() and outputs[0].ndim > 1:
            sites = {self._applied(function, producer, outputs[0])}
        for t in outputs:
            t._supervisor_layer, t._supervisor_sites = producer, sites  # type: ignore[attr-defined]  # noqa: SLF001

    def _consumed(self, sites: set[Key], layer: str) -> None:
        for key in sites & self._watched.keys():
            self._watched[key].consumers.setdefault(layer)

    def _gated(self, inputs: list[torch.Tensor]) -> None:
        """Mark the sites that are multiplied elementwise with another computed tensor (not a mask, not a scale)."""
        computed = [t for t in inputs if t.requires_grad and not isinstance(t, nn.Parameter) and t.ndim > 0]
        if len(computed) > 1:
            for key in {key for t in computed for key in getattr(t, "_supervisor_sites", ())} & self._watched.keys():
                self._watched[key].gate = True

    def _applied(self, function: str, producer: str | None, out: torch.Tensor) -> Key:
        frame = self._stack[-1]
        call = frame.counts[function] = frame.counts.get(function, -1) + 1
        key = (frame.path, function, producer)
        site = self._watched.setdefault(key, _Watched(key, frame.activation))
        if not frame.activation:
            site.calls.add(call)
        conv = producer is not None and self.kinds.get(producer) == "conv" and out.ndim > 2
        site.take(out.detach(), 1 if conv else out.ndim - 1)
        return key

    def sites(self) -> tuple[Site, ...]:
        """Return the sites seen so far, in the order of the forward pass."""
        taken: dict[str, int] = {}
        return tuple(self._site(watched, taken) for watched in self._watched.values())

    def _site(self, watched: _Watched, taken: dict[str, int]) -> Site:
        owner, function, producer = watched.key
        calls = tuple(sorted(watched.calls))
        name = owner if watched.module else f"{owner}:{function}:{calls[0]}"
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:  # one activation module applied after several layers
            name = f"{name}@{producer}"
        consumers = tuple(watched.consumers)
        return Site(name, function, owner, calls, producer, watched.units, bool(consumers), watched.gate, consumers)

    def silent_units(self, samples: int) -> dict[str, torch.Tensor]:
        """Return, by site name, which units have been silent for at least `samples` samples: (units,) bool."""
        pairs = zip(self.sites(), self._watched.values(), strict=True)
        return {site.name: w.silent_for >= samples for site, w in pairs if w.silent_for is not None}

    def figures(self, device: torch.device) -> list[torch.Tensor]:
        """Return per site the shares of silent units by SILENCE_LENGTHS and the share of zeros: (9,) each."""
        lengths = torch.tensor(SILENCE_LENGTHS, device=device, dtype=torch.int32)
        parts = []
        for watched in self._watched.values():
            silent = torch.zeros(len(SILENCE_LENGTHS), device=device)
            if watched.silent_for is not None:
                silent = (watched.silent_for >= lengths[:, None]).float().mean(1)
            zeros = watched.zeros if watched.zeros is not None else torch.zeros((), device=device)
            parts.append(torch.cat([silent, zeros.reshape(1)]))
        return parts


def _tensors(values: tuple[Any, ...]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _tensors(tuple(value))
        else:
            yield value
