"""Watches the forward pass of a sampled tick: where activations are applied, and which units stay silent.

One mechanism sees module activations (`nn.ReLU`) and functional ones (`F.relu`, `x.sigmoid()`) alike: a
TorchFunctionMode around the forward, with torch's global module hooks telling whose forward is running. Both
are installed on sampled ticks only, so nothing hangs on the modules: copies and saved models carry nothing along,
and the ticks in between cost nothing.

What each call was found to be (see `understanding`) is kept in a score; a network that does not change is followed by
it, and only measured (see `score`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from supervisor.records import FloatArray, Site
from supervisor.signals.figures import Reading
from supervisor.signals.flow import FlowProbe
from supervisor.signals.gates import layer_gates, squashed_within
from supervisor.signals.score import Call, Score
from supervisor.signals.silence import Silence
from supervisor.signals.tags import tensors_in, untag
from supervisor.signals.understanding import Understanding
from supervisor.signals.watched import Key

Args = tuple[Any, ...]
Named = dict[str, Any]


class _Watch(TorchFunctionMode):
    """Hands on every call of torch that is made inside."""

    def __init__(self, saw: Callable[..., None]) -> None:
        super().__init__()
        self.saw = saw

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Args = (), kwargs: Named | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns  # fmt: skip
        out = func(*args, **(kwargs or {}))
        if torch.compiler.is_compiling():
            return out  # what is compiled is not looked into
        self.saw(func, args, kwargs or {}, out)
        return out


def _compiled_frames() -> int:
    """Return how often torch.compile has set to work in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return sum(dynamo.counters["frames"].values()) if dynamo is not None else 0


class ActivationProbe:
    """The sites of a model, learned and measured on sampled forwards."""

    def __init__(self, model: nn.Module, owner_of: dict[int, str], *, follow: bool = False) -> None:
        """`owner_of` maps id(parameter) to the path of the module that owns it; frozen ones too.

        `follow`: a forward pass that was seen before may be followed by its score, and is not looked at anew.
        """
        self.model, self.known, self.flow = model, Understanding(owner_of), FlowProbe()
        self.score, self.silence = Score(readable=follow), Silence()
        self.ownership, self.layer_order = self.known.ownership, self.known.layer_order
        self._begins = False  # a forward pass of the model has begun, and made no call yet
        self.compiled = False  # whether torch.compile was at work: then nothing is watched any more
        self.followed = False  # whether the last watch saw what had been seen before, and no more
        self.complete = True  # False: the last watch was given up

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward passes inside. Torch's global hooks are removed on every way out.

        A watched forward pass is another one to torch.compile, which compiles it anew each time, and gives up after
        eight: so where anything was compiled during a watch, there is no other.
        """
        self.flow.begin()
        self.complete, self.followed = True, False
        if self.compiled:
            yield
            return
        frames, trusted = _compiled_frames(), self.score.trusted()
        self.score.begin()
        with _Watch(self._follow) if trusted else self._looking():
            yield
        self.compiled = _compiled_frames() > frames
        if not trusted:
            self.score.noted()
        else:
            self.followed = self.complete = self.score.followed()
            if not self.complete:
                self._give_up()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Look at every call in full."""
        self.known.begin(self.model)
        with ExitStack() as stack:
            stack.callback(untag, self.model)
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            stack.enter_context(_Watch(self.saw))
            yield

    def _enter(self, module: nn.Module, inputs: Any) -> Any:  # noqa: ANN401 - what the module is given, or None
        if torch.compiler.is_compiling():
            return None
        self._begins = self._begins or module is self.model
        path = self.known.enter(module)
        if path is None or not isinstance(module, nn.RNNBase):
            return None
        return self._enter_recurrent(module, path, inputs)

    def _enter_recurrent(self, module: nn.RNNBase, path: str, inputs: Any) -> Any:  # noqa: ANN401
        """Watch the gradient that arrives at each step of time. Raw inputs get a leaf of their own to see it by."""
        self.score.readable = False  # what is seen here is seen by a hook alone
        steps = inputs[0] if inputs else None
        if not isinstance(steps, torch.Tensor) or not torch.is_grad_enabled():
            return None  # packed sequences, or no gradient to see
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - the watch must not see its own calls
            for function, out in layer_gates(module, steps):
                self._squashed((path, function, path), out)
            given = steps if steps.requires_grad else steps.detach().requires_grad_()
            self.flow.through_time(path, given, batch_first=module.batch_first)
        return None if given is steps else (given, *inputs[1:])

    def _leave(self, _module: nn.Module, _inputs: Any, _out: Any) -> None:  # noqa: ANN401
        if not torch.compiler.is_compiling():
            self.known.leave()

    def _follow(self, func: Callable[..., Any], args: Args, kwargs: Named, out: Any) -> None:  # noqa: ANN401
        call = self.score.follow(func, args, out)
        if call is not None:
            self._measure(call, args, kwargs, out if isinstance(out, torch.Tensor) else next(tensors_in((out,))))

    def _give_up(self) -> None:
        """Leave this sample out: what was seen of it is not the whole."""
        for site in self.known.watched.values():
            site.slopes, site.last = [], None

    def saw(self, func: Callable[..., Any], args: Args, kwargs: Named, out: Any) -> None:  # noqa: ANN401
        """Take in one call of the forward pass."""
        outputs = list(tensors_in((out,)))
        if not outputs:
            return
        begins, self._begins = self._begins, False
        call = self.known.call(func, args, kwargs, outputs)._replace(begins=begins)
        self.score.note(call)
        self._measure(call, args, kwargs, outputs[0])

    def _measure(self, call: Call, args: Args, kwargs: Named, out: torch.Tensor) -> None:
        """Measure what there is to measure in a call."""
        if call.begins:
            self.flow.begin_forward()
        if call.passage:
            self.flow.saw(call.passage, out)
        if call.within is not None:
            path, _, producer = call.within
            for name, inside in squashed_within(call.func, args, kwargs, out):
                self._squashed((path, name, producer), inside)
        if call.site is not None:
            self.known.watched[call.site].take(out.detach(), conv=call.conv)

    def _squashed(self, key: Key, out: torch.Tensor) -> None:
        """Take in what a function squashes within a layer: it is read there."""
        site = self.known.within(key)
        site.consumers.setdefault(key[2] or key[0])
        site.take(out, conv=False)

    @property
    def skips(self) -> int:
        """How many residual connections were seen."""
        return self.known.skips

    @property
    def mismatch(self) -> str:
        """Where output and loss do not fit."""
        return self.known.mismatch

    def sites(self) -> tuple[Site, ...]:
        """Return the sites seen so far, in the order of the forward pass."""
        return self.known.sites()

    def silent_units(self, samples: int) -> dict[str, torch.Tensor]:
        """Return, by site name, which units were silent for at least `samples` samples: (units,) bool."""
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        pairs = zip(self.sites(), self.known.watched.values(), strict=True)
        units = {site.name: self.silence.units(watched, samples) for site, watched in pairs}
        return {name: silent.to(device) for name, silent in units.items() if silent is not None}

    def gathered(self) -> list[torch.Tensor]:
        """Return what the figures of the sites are made of."""
        return self.silence.gathered(list(self.known.watched.values()))

    def figures(self, reading: Reading) -> FloatArray:
        """Read what was gathered; return what `Silence.figures` tells by site: (sites, SITE_FIGURES)."""
        return self.silence.figures(list(self.known.watched.values()), reading)
