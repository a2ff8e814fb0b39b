"""What each call of a forward pass is: whose weights it takes in, which activations show in it, what it stems from.

While a forward pass is looked at, tensors carry tags: the layer they stem from, and the activations whose units they
still show; what is computed from parameters alone (a transposed, cast or normalized weight) carries the name of the
layer that owns them. An activation whose tag reaches a weight, trained or frozen, is hidden; one that is multiplied
with another computed tensor is a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn

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
from supervisor.signals.gates import squashes_within
from supervisor.signals.score import Call
from supervisor.signals.tags import LAYER, SITES, sites_of, stem_of, tag, tensors_in
from supervisor.signals.watched import Key, Watched
from supervisor.signals.wiring import Ownership, misfit

OUTSIDE: Final = "(train_fn)"
"""The owner of what is called outside any module's forward: it can be watched, not swapped."""


@dataclass
class _Frame:
    """A module whose forward is running."""

    path: str
    activation: bool
    foreign: bool = False  # no part of the model: a teacher, a frozen backbone beside it, a criterion
    counts: dict[str, int] = field(default_factory=dict)


class Understanding:
    """What the forward passes of a model have shown of its structure."""

    def __init__(self, owner_of: dict[int, str]) -> None:
        """`owner_of` maps id(parameter) to the path of the module that owns it; frozen ones too."""
        self.ownership = Ownership(owner_of)
        self.watched: dict[Key, Watched] = {}
        self.layer_order: dict[str, int] = {}  # owner: place in the order of first use
        self.mismatch = ""  # where output and loss do not fit
        self._convolutions: set[str] = set()
        self._skips: set[frozenset[str]] = set()  # pairs of layers whose outputs are summed
        self._stack: list[_Frame] = []
        self._paths: dict[int, str] = {}

    def begin(self, model: nn.Module) -> None:
        """Begin to look at a forward pass of `model`."""
        modules = list(model.named_modules())
        self._paths = {id(module): path for path, module in modules}
        self.ownership.begin(modules)
        self._stack = [_Frame(OUTSIDE, activation=False)]

    def enter(self, module: nn.Module) -> str | None:
        """Note that a module's forward begins; return its path, None of one that is no part of the model."""
        foreign = id(module) not in self._paths
        path = self._paths.get(id(module), self._stack[-1].path)
        self._stack.append(_Frame(path, is_activation_module(module), foreign))
        return None if foreign else path

    def leave(self) -> None:
        """Note that the forward begun last has ended."""
        self._stack.pop()

    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Sequence[torch.Tensor],
    ) -> Call:  # fmt: skip
        """Return what is to be measured in a call, and pass on to its outputs what its inputs carry."""
        if func is torch.Tensor.__deepcopy__ or isinstance(outputs[0], nn.Parameter):
            return Call(func)  # a copy of the model, or an average of it that is kept in the train step
        inputs = list(tensors_in((args, *kwargs.values())))
        weights = self.ownership.weights(inputs)
        for name in weights.values():
            self.layer_order.setdefault(name, len(self.layer_order))
        self.mismatch = self.mismatch or misfit(func, args, kwargs, outputs)
        known = Call(func, tuple((i, id(t)) for i, t in enumerate(args) if id(t) in self.ownership.owner_of))
        if constant := self.ownership.constant(inputs, weights):
            tag([t for t in outputs if not self.ownership.owns(t)], constant)
            return known
        sites, producer = self._flow(func, inputs, weights)
        if producer is not None and func not in ELEMENTWISE and producer in weights.values():
            known = known._replace(passage=producer)
        if squashes_within(func):
            known = known._replace(within=(self._stack[-1].path, "", producer))
        site = self._site(func, args, kwargs, outputs[0], producer)
        if site is not None:
            conv = producer in self._convolutions and outputs[0].ndim > 2 and func not in SOFTMAXES
            known, sites = known._replace(site=site, conv=conv), {site}
        if producer is not None or sites or any(hasattr(t, LAYER) for t in outputs):
            tag(outputs, {LAYER: producer, SITES: sites})
        return known

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
        for key in sites & self.watched.keys():
            self.watched[key].consumers.setdefault(layer)
        if getattr(func, "__name__", "").startswith("conv"):
            self._convolutions.add(layer)
        return set(), layer

    def within(self, key: Key) -> Watched:
        """Return the site of what a function squashes within itself; a new one is noted."""
        site = self.watched.setdefault(key, Watched(key, module=False, gate=True))
        site.calls.add(0)
        return site

    def _summed(self, inputs: list[torch.Tensor]) -> None:
        """Note a residual connection: a sum of what stems from two layers."""
        stems = {stem for t in inputs if (stem := getattr(t, LAYER, None)) is not None}
        if len(stems) == 2:
            self._skips.add(frozenset(stems))

    def _multiplied(self, inputs: list[torch.Tensor]) -> None:
        """Mark the gates among sites multiplied elementwise with another computed tensor (no mask, no scale).

        Where one side squashes (squeeze-excitation) it is the gate, and what it scales is none.
        """
        computed = {id(t): t for t in inputs if t.requires_grad and t.ndim > 0}
        if len(computed) < 2:
            return
        keys = sites_of(computed.values()) & self.watched.keys()
        squashing = {key for key in keys if key[1] in SQUASHING}
        for key in squashing or keys:
            self.watched[key].gate = True

    def _site(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor,
        producer: str | None,
    ) -> Key | None:  # fmt: skip
        """Return the site at which a call applies an activation, or None; a new one is noted."""
        frame, function = self._stack[-1], function_name(func, args, kwargs)
        if func in SOFTMAXES:
            if out.ndim <= 2 or out.shape[-1] <= 1:
                return None
            return self.within((frame.path, "softmax", producer)).key
        if function is None or frame.foreign or not out.is_floating_point() or out.ndim <= 1:
            return None
        call = frame.counts[function] = frame.counts.get(function, -1) + 1
        key = (frame.path, function, producer)
        site = self.watched.setdefault(key, Watched(key, frame.activation))
        if not frame.activation:
            site.calls.add(call)
        return key

    @property
    def skips(self) -> int:
        """How many residual connections were seen."""
        return len(self._skips)

    def sites(self) -> tuple[Site, ...]:
        """Return the sites seen so far, in the order of the forward pass."""
        taken: dict[str, int] = {}
        return tuple(watched.site(taken) for watched in self.watched.values())
