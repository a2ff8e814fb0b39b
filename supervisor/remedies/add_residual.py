"""Gives gradients a way around blocks of equal input and output shape."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._passes import Applied, Call, Trace
from supervisor.remedies._replacing import at
from supervisor.remedies._residual import Around, Pairs
from supervisor.remedies._surgery import operated
from supervisor.remedies._trace import traced
from supervisor.remedies._wrapping import Alter, Done, alterations, perform, witnessing
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun

DEPTH: Final = 4  # layers with weights around which an identity is laid: 2 or 3 in ResNets, 4 in attention
_PLAIN: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class _Plan:
    """Where identity paths are laid, by call of one pass."""

    blocks: list[Call]
    pairs: list[tuple[Call, Call]]  # a layer, and the owner in whose forward its activation follows


@REMEDIES.register("add_residual")
@dataclass(frozen=True)
class AddResidual:
    """Turn f(x) into x + s f(x) for blocks of equal shape (He et al., 2016).

    A block is the innermost module of up to four layers; elsewhere a layer with the activation behind it, or a layer
    alone where none follows. With n blocks s is 1 / sqrt(n), so that the sum stays of the size of x (Hayou et al.,
    2021); behind an activation it is 1 / n, because what rectifiers return is of one sign and adds up. Spared are
    outputs, gates, what runs several times a pass, and whatever has a way around it already. Refused where this tick's
    batch cannot be run again, or no block fits. Adds no parameters and no keys.
    """

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Add the identity paths as one surgery."""
        plan = _planned(run, traced(run))
        count = len(plan.blocks) + len(plan.pairs)
        if not count:
            message = "no hidden block has inputs and outputs of one shape and no way around it yet"
            raise RemedyRefused(message)
        by_owner: dict[str, list[str]] = {}
        for layer, owner in plan.pairs:
            by_owner.setdefault(owner.path, []).append(layer.path.removeprefix(f"{owner.path}.").removeprefix("."))
        change = {
            "kind": "add_residual",
            "scale": 1.0 / math.sqrt(count),
            "pair_scale": 1.0 / count,
            "blocks": [call.path for call in plan.blocks],
            "pairs": [{"owner": owner, "layers": layers} for owner, layers in by_owner.items()],
        }
        skips = dataclasses.replace(run.anatomy, skips=run.anatomy.skips + count)
        undo = operated(run, change, self.operate, anatomy=skips, invisible=lambda: _invisible(run, change))
        scales = {call.path: change["scale"] for call in plan.blocks}
        scales |= {layer.path: change["pair_scale"] for layer, _ in plan.pairs}
        return Effect({name: ("f(x)", f"x + {scale:.3g} f(x)") for name, scale in scales.items()}, undo)

    @staticmethod
    def operate(model: nn.Module, change: Mapping[str, Any]) -> Done:
        """Do the surgery that `change` describes; return what takes it back. Whole or not at all."""
        return perform(_steps(model, change))


def _steps(model: nn.Module, change: Mapping[str, Any]) -> Iterator[Alter]:
    scale = float(change["scale"])
    for path in change["blocks"]:
        yield Alter(at(model, path), Around(scale))
    for entry in change["pairs"]:
        owner = at(model, entry["owner"])
        for path in entry["layers"]:
            if not isinstance(at(owner, path), _PLAIN):
                message = f"{path} of {entry['owner'] or 'the model'} is {at(owner, path)}, not a Linear or Conv layer"
                raise RemedyRefused(message)
        yield Alter(owner, Pairs(tuple(entry["layers"]), float(change["pair_scale"])))


def _planned(run: TrainingRun, trace: Trace) -> _Plan:
    """Choose among the calls of one pass: whole blocks first, the innermost; then layers outside of them."""
    trained = {id(p) for p in run.parameters}
    fit = [c for c in trace.calls if _fits(trace, c) and any(id(p) in trained for p in c.module.parameters())]
    blocks: list[Call] = []
    for call in sorted((c for c in fit if _is_block(c)), key=lambda c: -len(c.above)):
        inside = any(call in chosen.above or chosen in call.above for chosen in blocks)
        if not inside and _depth(trace, call) <= DEPTH:
            blocks.append(call)
    pairs: list[tuple[Call, Call]] = []
    for call in fit:
        if isinstance(call.module, _PLAIN) and not any(block in call.above for block in blocks):
            following = [applied for applied in trace.applied if applied.left & call.bit]
            if not following:
                blocks.append(call)
            elif (owner := _owner(call, following)) is not None:
                pairs.append((call, owner))
    return _Plan(sorted(blocks, key=lambda c: c.number), pairs)


def _fits(trace: Trace, call: Call) -> bool:
    """Whether an identity path around `call` would be new, clean, and of use."""
    out, given = call.output, call.inputs[0] if call.inputs else None
    if not isinstance(out, Tensor) or given is None or not (out.shape == given.shape and out.dtype == given.dtype):
        return False
    spared = trace.gated | trace.bypassed
    read = bool(trace.read & call.bit)
    return call.clean and read and out.ndim > 1 and call.path != "" and not spared & call.bit and _once(trace, call)


def _once(trace: Trace, call: Call) -> bool:
    return sum(other.module is call.module and other.above[:1] == call.above[:1] for other in trace.calls) == 1


def _is_block(call: Call) -> bool:
    """Whether it is a module of the user's own or a container, not one of torch's layers."""
    own = not type(call.module).__module__.startswith("torch.nn.modules.") or isinstance(call.module, nn.Sequential)
    return own and any(True for _ in call.module.children()) and not isinstance(call.module, _PLAIN)


def _depth(trace: Trace, block: Call) -> int:
    """Return how many layers with weights run within `block`."""
    inside = [c for c in trace.calls if block in c.above and c.weighted]
    return sum(not any(c in other.above for other in inside) for c in inside)


def _owner(layer: Call, following: list[Applied]) -> Call | None:
    """Return the innermost call that the layer and the one activation behind it share, if the pair can be told."""
    applied = following[0]
    if len(following) > 1 or not applied.direct or applied.shape != layer.inputs[0].shape:
        return None
    if layer.module._parameters.get("weight") is None:  # noqa: SLF001 - a parametrized weight is another tensor each time
        return None
    shared = [call for call in layer.above if call in applied.within]
    return shared[-1] if shared else None


def _invisible(run: TrainingRun, change: Mapping[str, Any]) -> str:
    """Run the batch again; say around which blocks no identity was added."""
    assert run.replay is not None
    with witnessing() as seen:
        run.replay()
    missing = [path for path in change["blocks"] if not seen.intersection(alterations(run.module(path)))]
    for entry in change["pairs"]:
        added = {(a, path) for a in alterations(run.module(entry["owner"])) for path in entry["layers"]} & seen
        missing += [path for path in entry["layers"] if path not in {path for _, path in added}]
    return f"the identity path is not visible around {', '.join(missing)}" if missing else ""
