"""Where a non-finite value began. The walk happens only on ticks already known bad.

In the order in which one thing ruins the next: a parameter (or the optimizer's state that ruined it), the batch, a
buffer, the forward pass and the loss, the backward pass. The forward pass is not run again for it: what it did is read
from autograd's graph (`signals.graph`), in the tick itself, between forward and backward. On the CPU the loss is at
hand then; on an accelerator that would be a wait, so there the graph is read from the tick after the first bad one on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from supervisor.records import FloatArray
from supervisor.run import TrainingRun
from supervisor.signals.graph import Place, first_bad, is_bad

HUGE: Final = 1e18  # an input whose square is beyond float32
TARGETS: Final = ("target", "label", "answer")
"""What the key of a target in a batch contains; "y" is one too."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where it began, and in which layer, if in one."""

    kind: str = ""  # "parameters", "optimizer", "input", "target", "buffers", "forward", "loss" or "backward"
    layer: str = ""


NOWHERE: Final = Origin()


class OriginWalk:
    """Looks for the origin on bad ticks; it keeps what the forward pass showed until the tick is judged."""

    def __init__(self, run: TrainingRun, owner_of: Mapping[int, str]) -> None:
        """`owner_of` maps id(parameter) to the path of the module that owns it; frozen ones too."""
        self.run, self.owner_of = run, owner_of
        self._born_bad = {id(b) for b in run.model.buffers() if is_bad(b, severe=False)}  # a mask, a best-so-far
        self._norms = [module for module in run.model.modules() if isinstance(module, _NormBase)]
        self._place: Place | None = None
        self._was_bad = False  # the tick before
        run.before_backward = self.before_backward

    def before_backward(self, loss: torch.Tensor) -> None:
        """Look at a loss that is not finite while its graph still stands. Costs a microsecond where it is."""
        if loss.device.type != "cpu" and not self._was_bad:
            return
        if self._place is not None or math.isfinite(cast("float", loss.detach().tolist())):
            return
        # What is called here is no part of the forward pass; no oddity of a graph may end the training it is about.
        with suppress(Exception), torch._C.DisableTorchFunction():  # noqa: SLF001
            if self._ruined() is None:
                owners = {p.data_ptr(): self._owner(p) for p in self.run.model.parameters()}
                self._place = first_bad(loss, owners, self._bounds())

    def kept(self) -> list[torch.Tensor]:
        """Return what is kept between the ticks and has to be finite: optimizers' state, norms' running statistics."""
        held = [t for o in self.run.optimizers for state in o.state.values() for t in _state_tensors(state)]
        running = [t for norm in self._norms for t in norm.buffers(recurse=False) if t.is_floating_point()]
        return [t for t in (*held, *running) if id(t) not in self._born_bad]

    def trace(
        self, batches: list[Any], loss: float, grad_norm: float, grad_norms: FloatArray, *, sound: bool,
    ) -> Origin:  # fmt: skip
        """Return where it began, NOWHERE on a healthy tick. `grad_norms` is (layers,), in forward order."""
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        place, was_bad = self._place, self._was_bad
        self._place, self._was_bad = None, not finite
        if finite:
            return NOWHERE if sound else self._unsound()
        return (
            self._ruin(was_bad=was_bad)
            or self._in_batch(batches, place)
            or self._buffers(idle=False)
            or self._computed(loss, grad_norms, place)
        )

    def _unsound(self) -> Origin:
        """Return what is ruined in a tick whose loss and gradients are finite."""
        bad = next((p for p in self._ordered() if _bad_state(self.run, p)), None)
        return Origin("optimizer", self._owner(bad)) if bad is not None else self._buffers(idle=True) or NOWHERE

    def _ruin(self, *, was_bad: bool) -> Origin | None:
        """Return a ruined parameter, or the state that ruined it: a step on finite gradients did."""
        parameter = self._ruined()
        if parameter is None:
            return None
        by_state = not was_bad and _bad_state(self.run, parameter)
        return Origin("optimizer" if by_state else "parameters", self._owner(parameter))

    def _ruined(self) -> nn.Parameter | None:
        """Return the first parameter that is not finite; one that is frozen may be a mask of -Inf."""
        return next((p for p in self._ordered() if is_bad(p, severe=not p.requires_grad)), None)

    def _in_batch(self, batches: list[Any], place: Place | None) -> Origin | None:
        bad = [target for batch in batches for target, t in _leaves(batch) if _unusable(t)]
        if bad:
            told = {None: all(bad), "loss": any(bad), "target": True}  # else it has gone through a layer
            return Origin("target" if told.get(place.kind if place else None, False) else "input")
        if place is None or place.kind not in ("input", "target"):
            return None
        frozen = place.kind == "input" and any(not p.requires_grad for p in self.run.model.parameters())
        return Origin("forward" if frozen else place.kind)  # frozen first layers leave no graph

    def _buffers(self, *, idle: bool) -> Origin | None:
        """Return a ruined buffer; not `idle`: one that takes part. Training rewrites a norm's own, and reads none."""
        for path, module in self.run.model.named_modules():
            resting = isinstance(module, _NormBase) and module.training
            own = [b for b in module.buffers(recurse=False) if id(b) not in self._born_bad]
            if resting is idle and any(is_bad(b) for b in own):
                return Origin("buffers", self._known(path))
        return None

    def _computed(self, loss: float, grad_norms: FloatArray, place: Place | None) -> Origin:
        """Return where a pass over finite figures left them. Backward goes from the last layer to the first."""
        if not math.isfinite(loss):
            return Origin(place.kind, self._known(place.layer)) if place is not None else Origin("loss")
        bad = np.flatnonzero(~np.isfinite(grad_norms))
        last = bad[-1] if len(bad) else np.argmax(grad_norms)  # none: their sum of squares alone overflows
        return Origin("backward", self.run.anatomy.layers[int(last)].name)

    def _ordered(self) -> list[nn.Parameter]:
        """Return all parameters, in the order of the forward pass as far as it is known."""
        place = {layer.name: i for i, layer in enumerate(self.run.anatomy.layers)}
        return sorted(self.run.model.parameters(), key=lambda p: place.get(self._owner(p), len(place)))

    def _owner(self, parameter: nn.Parameter) -> str:
        return self._known(self.owner_of.get(id(parameter), ""))

    def _known(self, path: str) -> str:
        """Return `path` if it is a layer of the anatomy, else ""."""
        return path if any(layer.name == path for layer in self.run.anatomy.layers) else ""

    def _bounds(self) -> dict[str, float]:
        sums: dict[str, float] = {}
        for parameter in self.run.model.parameters():
            owner = self._owner(parameter)
            sums[owner] = sums.get(owner, 0.0) + float(parameter.detach().abs().sum(dtype=torch.float64))
        return sums


def _state_tensors(state: Mapping[str, Any]) -> list[torch.Tensor]:
    tensors = (value for value in state.values() if isinstance(value, torch.Tensor))
    return [t for t in tensors if t.ndim > 0 and t.is_floating_point()]


def _bad_state(run: TrainingRun, parameter: nn.Parameter) -> bool:
    return any(is_bad(tensor, severe=False) for tensor in _state_tensors(run.state_of(parameter)))


def _unusable(tensor: torch.Tensor) -> bool:
    """Return whether a tensor of a batch cannot be computed with; zeros and -Inf alone are a mask."""
    if not tensor.is_floating_point() or not tensor.numel():
        return False
    values = tensor if tensor.layout is torch.strided else tensor.coalesce().values()
    finite = values[torch.isfinite(values)]
    masked = bool((finite == 0.0).all()) and len(finite) > 0
    return is_bad(values, severe=masked) or bool((finite.abs() > HUGE).any())


def _leaves(value: Any, *, target: bool = False, depth: int = 6) -> Iterator[tuple[bool, torch.Tensor]]:  # noqa: ANN401
    """Yield the tensors in a batch of any shape, and whether each stands where targets do."""
    if isinstance(value, torch.Tensor):
        yield target, value
    elif isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        yield target, torch.from_numpy(np.array(value))
    elif depth:
        for targets, item in _items(value):
            yield from _leaves(item, target=target or targets, depth=depth - 1)


def _items(value: Any) -> list[tuple[bool, Any]]:  # noqa: ANN401 - a batch may be anything
    """Return what a container holds: named, in positions of which the last is the target's, or as attributes."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        value = dict(zip(value._fields, value, strict=True))
    if isinstance(value, Mapping):
        return [(_names_target(key), item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(0 < i == len(value) - 1, item) for i, item in enumerate(value)]
    attributes = {} if isinstance(value, (type, nn.Module)) else getattr(value, "__dict__", {})
    return [(_names_target(key), item) for key, item in attributes.items()]


def _names_target(key: object) -> bool:
    name = str(key).lower()
    return name == "y" or any(word in name for word in TARGETS)
