"""`initialize_()`: the initialization checklist as an action."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from supervisor.activations import SQUASHING, is_activation_module
from supervisor.checklists.checking import optimizers_of
from supervisor.checklists.untouched import stand_in, untouched
from supervisor.records import Anatomy, plain
from supervisor.remedies._fresh import NORMS, following, fresh
from supervisor.signals import Sensor

_KNOWN = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, *NORMS)


@dataclass(frozen=True)
class Initialized:
    """What was done to one parameter."""

    parameter: str
    method: str  # "He normal, before relu"
    before: float  # root mean square
    after: float


@dataclass(frozen=True)
class Initialization:
    """What `initialize_` did, and what it left alone and why."""

    done: tuple[Initialized, ...]
    left: dict[str, str]

    def summary(self) -> str:
        """Return it as text."""
        width = max((len(one.parameter) for one in self.done), default=0)
        lines = [f"{d.parameter:{width}}  {d.method}: {d.before:.3g} -> {d.after:.3g}" for d in self.done]
        return "\n".join([*lines, *(f"left: {name} ({why})" for name, why in self.left.items())])

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        facts: dict[str, Any] = plain(self)
        return facts


def initialize_(model: nn.Module, forward: Callable[[], Any] | None = None) -> Initialization:
    """Give every layer the initial values that its kind and the activation behind it call for; return what was done.

    He before rectifiers, Xavier before squashing functions and at the output, orthogonal recurrent matrices with an
    open forget gate, zero biases, normalizations at weight 1 and bias 0. Left alone: embeddings and what is tied to
    them, frozen parameters, parameters of modules of unknown kind. Do it before a pretrained state is loaded, not
    after. Draws from torch's global random numbers.

    Args:
        model: changed in place.
        forward: runs the model once, `lambda: model(x)`, so that functional activations are seen; it changes nothing.
            Left out: the order in which modules were registered tells which activation follows a layer.

    Raises:
        UsageError: model is no torch.nn.Module, or nothing in it can be trained.

    """
    optimizers_of(model, [torch.optim.SGD([torch.zeros(1)], lr=0.0)])
    function_of = _watched(model, forward) if forward is not None else _registered(model)
    left = {name: why for name, p in model.named_parameters() if (why := _reason(model, p))}
    done = [_write(*planned) for planned in _plan(model, function_of, left)]
    for module in model.modules():
        if isinstance(module, _NormBase) and module.track_running_stats and _trained(module):
            module.reset_running_stats()
    return Initialization(tuple(done), left)


def _trained(module: nn.Module) -> bool:
    return all(p.requires_grad for p in module.parameters(recurse=False))


def _reason(model: nn.Module, parameter: nn.Parameter) -> str:
    """Return why a parameter is left alone, or an empty string."""
    if not parameter.requires_grad:
        return "frozen"
    owners = [m for m in model.modules() if any(parameter is p for p in m.parameters(recurse=False))]
    if any(isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) for owner in owners):
        return "an embedding"
    return "" if any(isinstance(owner, _KNOWN) for owner in owners) else f"of a {type(owners[0]).__name__}"


def _watched(model: nn.Module, forward: Callable[[], Any]) -> Callable[[str], str | None]:
    """Return which activation follows a layer, as one forward pass shows it."""
    with untouched(model, ()):
        sensor = Sensor(stand_in(model), 1)
        sensor.run.clock.tick = 1
        with sensor.watching():
            forward()
        anatomy = Anatomy((), sensor.probe.sites())
    return lambda layer: following(anatomy, layer)


def _registered(model: nn.Module) -> Callable[[str], str | None]:
    """Return which activation follows a layer, as the order of registration tells; a rectifier where it does not.

    The last layer is the output: nothing follows it, unless an activation is registered behind it.
    """
    found: dict[str, str | None] = {}
    current, kinds = "", set()
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Bilinear, _ConvNd)):
            current = path or "model"
            found[current] = None
        elif is_activation_module(module):
            name = {"LeakyReLU": "leaky_relu"}.get(type(module).__name__, type(module).__name__.lower())
            kinds.add(name)
            if current:
                found[current] = found[current] or name
    usual = next(iter(kinds)) if len(kinds) == 1 and kinds <= SQUASHING else "relu"
    heads = [path for path, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)]
    linear = {current, *heads, *(f"{path}.out_proj" for path in heads)}  # nothing bends what they put out
    return lambda layer: found.get(layer) or (None if layer in linear else usual)


def _plan(
    model: nn.Module, function_of: Callable[[str], str | None], left: dict[str, str],
) -> Iterator[tuple[str, nn.Parameter, Tensor, str]]:  # fmt: skip
    """Yield what to initialize: its name, itself, its new values and how they were made. A tied parameter comes once.

    What has no fresh values is added to `left`.
    """
    done: set[int] = {id(p) for name, p in model.named_parameters() if name in left}
    for path, module in model.named_modules():
        function = function_of(path or "model")
        for name, parameter in module.named_parameters(recurse=False) if isinstance(module, _KNOWN) else ():
            if id(parameter) in done:
                continue
            done.add(id(parameter))
            full = f"{path}.{name}" if path else name
            values = fresh(module, name, parameter, function)
            if values is None and "bias" in name:
                values = torch.zeros_like(parameter)
            if values is None:
                left[full] = f"of unknown meaning in a {type(module).__name__}"
            else:
                yield full, parameter, values, _method(module, name, function)


def _method(module: nn.Module, name: str, function: str | None) -> str:
    """Return how fresh values of a parameter are made, in words."""
    if isinstance(module, NORMS):
        return "one" if name == "weight" else "zero"
    if "bias" in name:
        opened = name.startswith("bias_ih") and isinstance(module, (nn.LSTM, nn.LSTMCell))
        return "zero, forget gate 1" if opened else "zero"
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return "orthogonal" if name.startswith("weight_hh") else "Xavier uniform"
    if function is None or function in SQUASHING:
        return f"Xavier uniform, before {function or 'no activation'}"
    return f"He normal, before {function}"


@torch.no_grad()
def _write(name: str, parameter: nn.Parameter, values: Tensor, method: str) -> Initialized:
    before = _rms(parameter)
    parameter.copy_(values)
    return Initialized(name, method, before, _rms(parameter))


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().float().square().mean().sqrt()) if tensor.numel() else 0.0
