"""Follows one batch through the model: which layer reads what, where paths part and meet, what is called how often.

`run.replay` runs the batch; a TorchFunctionMode and torch's global module hooks watch it, so nothing hangs on the
modules. Each tensor gets a trail: which module calls it went through (by their weights), of which it still is the input
or the output. A sum of two tensors of one origin, one of which went through a layer and the other did not, is a way
around it. Memory: the activations of one forward pass. What is compiled is not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from supervisor.activations import ADDITIONS, ELEMENTWISE, MULTIPLICATIONS, function_name
from supervisor.errors import RemedyRefused
from supervisor.remedies._passes import Applied, Call, Trace, Trail, joined, tensors_in
from supervisor.run import TrainingRun

_MEETINGS: Final = ADDITIONS | {torch.cat, torch.stack, torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__}
_NORM_FUNCTIONS: Final = frozenset(
    {F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, torch.layer_norm, torch.group_norm, torch.batch_norm}
    | {getattr(home, "rms_norm") for home in (F, torch) if hasattr(home, "rms_norm")},  # noqa: B009 - newer torch
)


def traced(run: TrainingRun) -> Trace:
    """Run this tick's batch again and return what it showed. Refused where it cannot be, or shows nothing."""
    if run.replay is None:
        message = "it needs this tick's batch once more, and this form of train_fn cannot run a batch again"
        raise RemedyRefused(message)
    watch = _Watch(run.model)
    enter = register_module_forward_pre_hook(watch.enter)
    leave = register_module_forward_hook(watch.leave, always_call=True)
    try:
        with watch:
            run.replay()
    finally:
        enter.remove()
        leave.remove()
    if not watch.trace.calls:
        message = "no module of the model was seen running: is it compiled as a whole?"
        raise RemedyRefused(message)
    return watch.trace


def seen_once_more(run: TrainingRun) -> Trace | None:
    """Return what a pass shows, or None where it shows nothing."""
    try:
        return traced(run)
    except RemedyRefused:
        return None


class _Watch(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.trace, self.stack = Trace(), list[Call]()
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.weights = {id(p): frozenset([id(p)]) for p in model.parameters()}  # and what is computed from them alone
        self.weights |= {id(b): frozenset[int]() for b in model.buffers()}  # a spectral norm's are part of a weight
        self.trails: dict[int, Trail] = {}
        self.used: dict[int, int] = {}  # id(parameter): the calls that used it
        self.norms: set[int] = set()  # outputs of normalizations
        self.outputs: set[int] = set()  # outputs of modules
        self.alive: list[Any] = []  # an id says nothing once its tensor is gone

    def enter(self, module: nn.Module, args: Any) -> None:  # noqa: ANN401 - as torch calls it
        if id(module) not in self.paths or torch.compiler.is_compiling():
            return
        given, number = tuple(tensors_in(args)), len(self.trace.calls)
        versions = tuple(t._version for t in given)  # noqa: SLF001 - the only sign of a write in place
        call = Call(number, self.paths[id(module)], module, tuple(self.stack), given, versions)
        self.trace.calls.append(call)
        for tensor in call.inputs:
            origin = call.bit if not self.stack and id(tensor) not in self.trails else 0
            self._mark(tensor, Trail(entered=call.bit, origin=origin))
            if id(tensor) in self.norms:
                self.trace.after_norm |= call.bit
        call.given = self.trails[id(given[0])].left if given else 0
        self.stack.append(call)

    def leave(self, module: nn.Module, _args: Any, output: Any) -> None:  # noqa: ANN401 - as torch calls it
        if id(module) not in self.paths or torch.compiler.is_compiling():
            return
        call = self.stack.pop()
        outputs = list(tensors_in((output,)))
        call.output = output
        around = any(self.trails.get(id(t), Trail()).entered & call.bit for t in outputs)
        kept = call.versions == tuple(t._version for t in call.inputs)  # noqa: SLF001
        call.clean = call.weighted and kept and not around
        self.outputs |= {id(t) for t in outputs}
        for tensor in outputs:
            self._mark(tensor, Trail(past=call.bit if call.weighted else 0, left=call.bit, raw=call.bit))
        if call.norm:
            self.trace.normed |= call.given
            self.norms |= {id(t) for t in outputs}

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns  # fmt: skip
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            return func(*args, **kwargs)
        inputs = list(tensors_in((args, tuple(kwargs.values()))))
        before = [self.trails.get(id(t)) for t in inputs]
        out = func(*args, **kwargs)
        outputs = list(tensors_in((out,)))
        if outputs:
            self._saw(func, (args, kwargs), inputs, before, outputs)
        return out

    def _saw(
        self, func: Callable[..., Any], given: tuple[tuple[Any, ...], dict[str, Any]], inputs: list[Tensor],
        before: list[Trail | None], outputs: list[Tensor],
    ) -> None:  # fmt: skip
        """Take in one call: `before` are the trails of its `inputs`."""
        weights = [self.weights[id(t)] for t in inputs if id(t) in self.weights]
        if inputs and len(weights) == len(inputs):
            return self._constant(outputs, frozenset().union(*weights))
        trails = [trail for trail in before if trail is not None]
        trail = joined(trails)
        if function := function_name(func, *given):
            direct = any(id(t) in self.norms or id(t) in self.outputs for t in inputs)
            within = tuple(self.stack)
            self.trace.applied.append(Applied(function, within, trail.left, direct, outputs[0].shape))
            trail = replace(trail, raw=0)
        if func in _NORM_FUNCTIONS:
            self._normalized(inputs[:1])
            self.norms |= {id(t) for t in outputs}
        heavy = any(t.ndim > 1 and self.weights.get(id(t)) for t in inputs) and func not in ELEMENTWISE
        if heavy:
            trail = self._went_through(frozenset().union(*weights), trail)
        elif func in _MEETINGS:
            self._met([t for t in trails if outputs[0].ndim > 1])
        elif func in MULTIPLICATIONS and len({trail.past for trail in trails}) > 1:  # a norm by hand: x / |x|
            self.trace.gated |= trail.left
        for tensor in outputs:
            self._mark(tensor, trail, anew=True)
        return None

    def _constant(self, outputs: list[Tensor], owners: frozenset[int]) -> None:
        for tensor in outputs:
            self.weights[id(tensor)] = owners
            self.alive.append(tensor)

    def _went_through(self, parameters: Iterable[int], trail: Trail) -> Trail:
        outermost, here = (self.stack[0].number, self.stack[-1].bit) if self.stack else (-1, 0)
        for parameter in parameters:
            key = (parameter, outermost)
            self.trace.uses[key] = self.trace.uses.get(key, 0) + 1
            if trail.past & self.used.get(parameter, 0):
                self.trace.recurrent.add(parameter)
            self.used[parameter] = self.used.get(parameter, 0) | here
        for call in self.stack:
            call.weighted = True
        self.trace.read |= trail.left
        return Trail(past=trail.past | here, origin=trail.origin)

    def _met(self, trails: list[Trail]) -> None:
        """Note what there is a way around, where computed tensors of one origin are summed or laid side by side."""
        for i, one in enumerate(trails):
            for other in trails[:i]:
                if one.origin & other.origin:
                    self.trace.bypassed |= one.past ^ other.past
                    for branch, way in ((one, other), (other, one)):
                        if not way.past & ~branch.past:  # the identity, or what an earlier sum handed on
                            self.trace.ends |= branch.raw & branch.past & ~way.past

    def _normalized(self, inputs: Iterable[Tensor]) -> None:
        for tensor in inputs:
            self.trace.normed |= self.trails.get(id(tensor), Trail()).left

    def _mark(self, tensor: Tensor, trail: Trail, *, anew: bool = False) -> None:
        known = self.trails.get(id(tensor))
        self.trails[id(tensor)] = trail if anew or known is None else known | trail
        if known is None:
            self.alive.append(tensor)
