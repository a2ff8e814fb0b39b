"""One forward and backward pass of a training, looked at from every side and then undone."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.checklists.calls import Listening, Seen
from supervisor.checklists.graph import Depth, Node, depth_of
from supervisor.checklists.untouched import Scheduler, copied, stand_in, untouched
from supervisor.entry.owned import loss_of
from supervisor.errors import UsageError
from supervisor.policy import Policy
from supervisor.records import Anatomy, Snapshot
from supervisor.signals import Sensor
from supervisor.signals.tags import tensors_in
from supervisor.signals.updates import UpdateProbe

TrainFn = Callable[[Any], Any]


@dataclass
class FirstPass:
    """What a training showed in its first pass. The model is the live one; nothing in it was changed."""

    model: nn.Module
    optimizers: tuple[Optimizer, ...]
    policy: Policy
    batch: Any
    seen: Seen = field(default_factory=Seen)
    anatomy: Anatomy = field(default_factory=lambda: Anatomy(()))
    snapshot: Snapshot | None = None  # None where the pass did not go through
    error: Exception | None = None  # why not
    inputs: dict[str, Tensor] = field(default_factory=dict)  # what the model was given
    evaluating: tuple[str, ...] | None = None  # modules in eval mode while the model ran; None: it never ran
    gradients: dict[int, Tensor | None] = field(default_factory=dict)  # by id(parameter)
    outside: tuple[int, ...] = ()  # ids of parameters beside the model that got a gradient
    order: tuple[str, ...] = ()  # layers as they were first used, frozen ones too
    depth: Depth | None = None
    steps: Mapping[str, float] = field(default_factory=dict)  # layer: norm of the first update over the weights'

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The model's parameters by name, a tied one once."""
        return dict(self.model.named_parameters())

    @property
    def normalized(self) -> bool:
        """Whether anything normalizes on the way."""
        return bool(self.seen.normalizing) or any(layer.kind == "norm" for layer in self.anatomy.layers)

    @property
    def matrices(self) -> list[str]:
        """The layers that multiply by a weight matrix, in the order of the forward pass."""
        kinds = ("linear", "conv", "recurrent")
        return [layer.name for layer in self.anatomy.layers if layer.kind in kinds]


def first_pass(
    model: nn.Module, optimizers: Sequence[Optimizer], batch: Any, train_fn: TrainFn, policy: Policy,  # noqa: ANN401
    scheduler: Scheduler = None,
) -> FirstPass:  # fmt: skip
    """Run `train_fn` once and tell what was seen. Raises UsageError where it returns no loss; changes nothing."""
    found = FirstPass(model, tuple(optimizers), policy, batch)
    with untouched(model, optimizers, scheduler):
        run = stand_in(model)
        run.clock.tick = 1
        sensor = Sensor(run, 1)
        listening = listener(sensor)
        try:
            loss, root = passed_through(sensor, listening, found, train_fn, copied(batch))
            found.snapshot = sensor.snapshot([loss], [batch])
            found.depth = depth_of(root)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - what the user's own step raises is what the list tells of
            found.error = error
        found.seen, found.anatomy, found.order = listening.seen, run.anatomy, tuple(sensor.probe.layer_order)
        found.gradients = gradients_of(model)
        own = set(found.gradients)
        held = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        found.outside = tuple(id(p) for p in held if id(p) not in own and p.grad is not None)
    found.steps = first_step(sensor, optimizers, found.gradients) if found.snapshot is not None else {}
    return found


def gradients_of(model: nn.Module) -> dict[int, Tensor | None]:
    """Return the gradients by id(parameter), sparse ones as they are."""
    return {id(p): p.grad for p in model.parameters()}


def arrives(gradient: Tensor | None) -> bool:
    """Return whether a gradient holds anything but zeros."""
    if gradient is None:
        return False
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool((values != 0).any())


def listener(sensor: Sensor) -> Listening:
    """Return what listens to the calls of the model that `sensor` watches."""
    kinds = {layer.name: layer.kind for layer in sensor.run.anatomy.layers}
    convolutions = frozenset(name for name, kind in kinds.items() if kind == "conv")
    return Listening(sensor.probe.ownership.owner_of, convolutions)


def passed_through(
    sensor: Sensor, listening: Listening, found: FirstPass, train_fn: TrainFn, batch: Any,  # noqa: ANN401
) -> tuple[Tensor, Node | None]:  # fmt: skip
    """Run forward and backward; return the detached loss and where its graph begins.

    A train step that calls backward() itself (and steps: that is undone) has its gradients already.
    """
    parameters = sensor.run.parameters
    with sensor.watching():
        with listening, _arguments(sensor.run.model, found):
            result = train_fn(batch)
        if any(p.grad is not None for p in parameters):
            value = result.get("loss") if isinstance(result, Mapping) else result
            number = float(value) if isinstance(value, (int, float, Tensor)) else math.nan
            return torch.tensor(number, device=sensor.run.device), None
        loss = loss_of(result)
        loss.backward()
    return loss.detach(), loss.grad_fn


@contextmanager
def _arguments(model: nn.Module, found: FirstPass) -> Iterator[None]:
    """Note what the model is given when it is first called, and in which mode it is."""

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ANN401 - a hook's signature
        if found.evaluating is not None:
            return
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            named = _named(module, args, kwargs)
            found.inputs = {name: t.detach().clone() for name, value in named.items() for t in tensors_in((value,))}
            found.evaluating = tuple(path or "model" for path, m in module.named_modules() if not m.training)

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(note, with_kwargs=True).remove)
        yield


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of `module` by the names its forward gives them."""
    try:
        return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {**{f"argument {i}": value for i, value in enumerate(args)}, **kwargs}


def first_step(
    sensor: Sensor, optimizers: Sequence[Optimizer], gradients: Mapping[int, Tensor | None],
) -> dict[str, float]:  # fmt: skip
    """Return by layer the norm of the step that the optimizers would take over the norm of the weights.

    Taken by a copy of the optimizers on a copy of the parameters; {} where an optimizer cannot be copied. Memory:
    one more copy of both for as long as it takes.
    """
    copies: dict[int, Any] = {}
    try:
        doubles = [copy.deepcopy(optimizer, copies) for optimizer in optimizers]
        known = [p for p in sensor.parameters if isinstance(copies.get(id(p)), nn.Parameter)]
        twins = [copies[id(p)] for p in known]
        for p, twin in zip(known, twins, strict=True):
            gradient = gradients.get(id(p))
            twin.grad = None if gradient is None else gradient.detach().clone()
        probe = UpdateProbe(twins)
        probe.remember()
        for double in doubles:
            double.step()
        moved = probe.norms() if twins else None
    except Exception:  # noqa: BLE001 - an optimizer that needs a closure, or more than its groups and state
        return {}
    return _by_layer(known, [] if moved is None else moved.tolist(), sensor.probe.ownership.owner_of)


def _by_layer(parameters: Sequence[Tensor], moved: Sequence[float], names: Mapping[int, str]) -> dict[str, float]:
    """Gather by layer, over weights of two dimensions and more: biases and norms may well start at zero."""
    squares: dict[str, list[float]] = {}
    for parameter, step in zip(parameters, moved, strict=True):
        if parameter.ndim > 1:
            pair = squares.setdefault(names[id(parameter)], [0.0, 0.0])
            pair[0] += step**2
            pair[1] += float(parameter.detach().float().square().sum())
    return {name: math.sqrt(step / weight) for name, (step, weight) in squares.items() if weight > 0}
