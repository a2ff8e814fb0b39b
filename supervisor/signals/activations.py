"""Watches the forward pass of a sampled tick: where activations are applied, and which units stay silent.

One mechanism sees module activations (`nn.ReLU`) and functional ones (`F.relu`, `x.sigmoid()`) alike: a
TorchFunctionMode around the forward, with torch's global module hooks telling whose forward is running. Both
are installed on sampled ticks only, so nothing hangs on the modules: copies and saved models carry nothing along,
and the ticks in between cost nothing.

While it watches, tensors carry tags: the layer they stem from, and the activations whose units they still show; what
is computed from parameters alone (a transposed, cast or normalized weight) carries the name of the layer that owns
them. An activation whose tag reaches a weight, trained or frozen, is hidden; one that is multiplied with another
computed tensor is a gate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from supervisor.activations import (
    ADDITIONS,
    ELEMENTWISE,
    MULTIPLICATIONS,
    SOFTMAXES,
    SQUASHING,
    function_name,
    is_activation_module,
)
from supervisor.records import Site
from supervisor.signals.flow import FlowProbe
from supervisor.signals.gates import layer_gates, squashed_within, squashes_within
from supervisor.signals.tags import LAYER, SITES, sites_of, stem_of, tag, tensors_in, untag
from supervisor.signals.watched import Key, Watched, figures_of
from supervisor.signals.wiring import Ownership, misfit


@dataclass
class _Frame:
    """A module whose forward is running."""

    path: str
    activation: bool
    foreign: bool = False  # no part of the model: a teacher, a frozen backbone beside it, a criterion
    counts: dict[str, int] = field(default_factory=dict)


class _Watch(TorchFunctionMode):
    def __init__(self, probe: ActivationProbe) -> None:
        super().__init__()
        self.probe = probe

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns  # fmt: skip
        out = func(*args, **(kwargs or {}))
        if torch.compiler.is_compiling():
            return out  # what is compiled is not looked into
        self.probe.saw(func, args, kwargs or {}, out)
        return out


def _compiled_frames() -> int:
    """Return how often torch.compile has set to work in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return sum(dynamo.counters["frames"].values()) if dynamo is not None else 0


OUTSIDE: Final = "(train_fn)"
"""The owner of what is called outside any module's forward: it can be watched, not swapped."""


class ActivationProbe:
    """The sites of a model, learned and measured on sampled forwards."""

    def __init__(self, model: nn.Module, owner_of: dict[int, str]) -> None:
        """`owner_of` maps id(parameter) to the path of the module that owns it; frozen ones too."""
        self.model, self.ownership, self.flow = model, Ownership(owner_of), FlowProbe()
        self.layer_order: dict[str, int] = {}  # owner: place in the order of first use
        self._convolutions: set[str] = set()
        self._watched: dict[Key, Watched] = {}
        self._stack: list[_Frame] = []
        self._paths: dict[int, str] = {}
        self._skips: set[frozenset[str]] = set()  # pairs of layers whose outputs are summed
        self.mismatch = ""  # where output and loss do not fit
        self.compiled = False  # whether torch.compile was at work: then nothing is watched any more

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward passes inside. Torch's global hooks are removed on every way out.

        A watched forward pass is another one to torch.compile, which compiles it anew each time, and gives up after
        eight: so where anything was compiled during a watch, there is no other.
        """
        self.flow.begin()
        if self.compiled:
            yield
            return
        frames = _compiled_frames()
        modules = list(self.model.named_modules())
        self._paths = {id(module): path for path, module in modules}
        self.ownership.begin(modules)
        self._stack = [_Frame(OUTSIDE, activation=False)]
        with ExitStack() as stack:
            stack.callback(untag, self.model)
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            stack.enter_context(_Watch(self))
            yield
        self.compiled = _compiled_frames() > frames
        for site in self._watched.values():
            site.close_sample()

    def _enter(self, module: nn.Module, inputs: Any) -> Any:  # noqa: ANN401 - what the module is given, or None
        if torch.compiler.is_compiling():
            return None
        foreign = id(module) not in self._paths
        path = self._paths.get(id(module), self._stack[-1].path)
        if module is self.model:
            self.flow.begin_forward()
        self._stack.append(_Frame(path, is_activation_module(module), foreign))
        return None if foreign or not isinstance(module, nn.RNNBase) else self._enter_recurrent(module, path, inputs)

    def _enter_recurrent(self, module: nn.RNNBase, path: str, inputs: Any) -> Any:  # noqa: ANN401
        """Watch the gradient that arrives at each step of time. Raw inputs get a leaf of their own to see it by."""
        steps = inputs[0] if inputs else None
        if not isinstance(steps, torch.Tensor) or not torch.is_grad_enabled():
            return None  # packed sequences, or no gradient to see
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - the watch must not see its own calls
            for function, out in layer_gates(module, steps):
                self._take((path, function, path), out, gate=True, hidden=True)
            given = steps if steps.requires_grad else steps.detach().requires_grad_()
            self.flow.through_time(path, given, batch_first=module.batch_first)
        return None if given is steps else (given, *inputs[1:])

    def _leave(self, _module: nn.Module, _inputs: Any, _out: Any) -> None:  # noqa: ANN401
        if not torch.compiler.is_compiling():
            self._stack.pop()

    def saw(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:  # noqa: ANN401
        """Take in one call of the forward pass."""
        outputs = list(tensors_in((out,)))
        if not outputs or func is torch.Tensor.__deepcopy__ or isinstance(outputs[0], nn.Parameter):
            return  # a copy of the model, or an average of it that is kept in the train step
        inputs = list(tensors_in((args, *kwargs.values())))
        weights = self.ownership.weights(inputs)
        for name in weights.values():
            self.layer_order.setdefault(name, len(self.layer_order))
        self.mismatch = self.mismatch or misfit(func, args, kwargs, outputs)
        if constant := self.ownership.constant(inputs, weights):
            tag([t for t in outputs if not self.ownership.owns(t)], constant)
            return
        sites, producer = self._flow(func, inputs, weights)
        function, first = function_name(func, args, kwargs), outputs[0]
        if producer is not None and func not in ELEMENTWISE and producer in weights.values():
            self.flow.saw(producer, first)
        for name, inside in squashed_within(func, args, kwargs, first) if squashes_within(func) else ():
            self._take((self._stack[-1].path, name, producer), inside, gate=True, hidden=True)
        if func in SOFTMAXES and first.ndim > 2 and first.shape[-1] > 1:
            sites = {self._take((self._stack[-1].path, "softmax", producer), first.detach(), gate=True)}
        if function is not None and first.is_floating_point() and first.ndim > 1:
            sites = self._applied(function, producer, first) or sites
        if producer is not None or sites or any(hasattr(t, LAYER) for t in outputs):
            tag(outputs, {LAYER: producer, SITES: sites})

    def _flow(
        self, func: Callable[..., Any], inputs: list[torch.Tensor], weights: dict[int, str],
    ) -> tuple[set[Key], str | None]:  # fmt: skip
        """Return the sites that show in the result of a call, and the layer it stems from."""
        sites = sites_of(inputs)
        layer = next((weights[id(t)] for t in inputs if id(t) in weights and t.ndim > 1), None)
        if layer is None or func in ELEMENTWISE:
            if func in ADDITIONS:
                self._summed(inputs)
            if func in MULTIPLICATIONS:
                self._multiplied([t for t in inputs if id(t) not in weights])
            return sites, stem_of(inputs, self.layer_order)
        for key in sites & self._watched.keys():
            self._watched[key].consumers.setdefault(layer)
        if getattr(func, "__name__", "").startswith("conv"):
            self._convolutions.add(layer)
        return set(), layer

    def _take(self, key: Key, out: torch.Tensor, *, gate: bool, hidden: bool = False) -> Key:
        """Take in the output of a function that squashes within a layer."""
        site = self._watched.setdefault(key, Watched(key, module=False, gate=gate))
        site.calls.add(0)
        if hidden:
            site.consumers.setdefault(key[2] or key[0])
        site.take(out, conv=False)
        return key

    def _summed(self, inputs: list[torch.Tensor]) -> None:
        """Note a residual connection: a sum of what stems from two layers."""
        stems = {stem for t in inputs if (stem := getattr(t, LAYER, None)) is not None}
        if len(stems) == 2:
            self._skips.add(frozenset(stems))

    @property
    def skips(self) -> int:
        """How many residual connections were seen."""
        return len(self._skips)

    def _multiplied(self, inputs: list[torch.Tensor]) -> None:
        """Mark the gates among sites multiplied elementwise with another computed tensor (no mask, no scale).

        Where one side squashes (squeeze-excitation) it is the gate, and what it scales is none.
        """
        computed = {id(t): t for t in inputs if t.requires_grad and t.ndim > 0}
        if len(computed) < 2:
            return
        keys = sites_of(computed.values()) & self._watched.keys()
        squashing = {key for key in keys if key[1] in SQUASHING}
        for key in squashing or keys:
            self._watched[key].gate = True

    def _applied(self, function: str, producer: str | None, out: torch.Tensor) -> set[Key]:
        frame = self._stack[-1]
        if frame.foreign:
            return set()
        call = frame.counts[function] = frame.counts.get(function, -1) + 1
        key = (frame.path, function, producer)
        site = self._watched.setdefault(key, Watched(key, frame.activation))
        if not frame.activation:
            site.calls.add(call)
        site.take(out.detach(), conv=producer in self._convolutions and out.ndim > 2)
        return {key}

    def sites(self) -> tuple[Site, ...]:
        """Return the sites seen so far, in the order of the forward pass."""
        taken: dict[str, int] = {}
        return tuple(watched.site(taken) for watched in self._watched.values())

    def silent_units(self, samples: int) -> dict[str, torch.Tensor]:
        """Return, by site name, which units have been silent for at least `samples` samples: (units,) bool."""
        pairs = zip(self.sites(), self._watched.values(), strict=True)
        return {site.name: w.silent_for >= samples for site, w in pairs if w.silent_for is not None}

    def figures(self, device: torch.device) -> torch.Tensor:
        """Return by site what `figures_of` tells of it: (sites, SITE_FIGURES)."""
        return figures_of(list(self._watched.values()), device)
