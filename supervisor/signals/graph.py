"""Where in a forward pass the first non-finite value appeared, read from the graph that autograd has built.

The graph stands between forward and backward and holds the tensors that backward will need. Walking it in the order
of the calls tells the first bad one without running anything again: no random numbers are drawn, no buffer and no
state of the user's is touched. What a compiled region computes is one node: it tells no layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import torch

MAKERS: Final = frozenset(
    {"Exp", "Expm", "Exp2", "Sqrt", "Rsqrt", "Reciprocal", "Pow", "Prod", "Sinh", "Cosh", "Tan", "Logsumexp"}
    | {"LinalgVectorNorm", "Norm", "Std", "Var", "Cdist"},
)
"""Operations that make Inf or NaN of finite inputs, and keep their result: what is bad there began there."""

VIEWS: Final = frozenset(
    {"T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "Expand", "Unsqueeze", "Squeeze", "Alias"}
    | {"ToCopy", "Clone", "Slice", "Select", "Split", "Chunk", "Unbind"},
)


@dataclass(frozen=True)
class Place:
    """Where a value first was not finite."""

    kind: str  # "input", "target", "forward" or "loss"
    layer: str = ""


@dataclass
class _Node:
    """One recorded operation."""

    function: Any  # a torch.autograd.graph.Node
    name: str
    inputs: list[_Node] = field(default_factory=list)  # computed ones, without parameters
    layer: str = ""  # whose parameters it uses
    stem: str = ""  # the last layer that its result went through


def first_bad(loss: torch.Tensor, owners: Mapping[int, str], bounds: Mapping[str, float]) -> Place | None:
    """Return where the first bad value of the pass that ends in `loss` appeared; None if the graph does not show it.

    `owners` maps the data pointer of a parameter to its layer; `bounds` holds, by layer, the sum of the absolute
    values of its parameters: times the largest input, its output can be no larger.
    """
    nodes = _nodes(loss, owners)
    last = max((i for i, node in enumerate(nodes) if node.layer), default=-1)
    for severe in (True, False):  # -Inf is often a mask that does no harm: it counts where nothing else is bad
        for i, node in enumerate(nodes):
            bad = [name for name, tensor in _saved(node.function, owners) if is_bad(tensor, severe=severe)]
            if bad:
                return _place(node, bad, bounds, behind=i > last)
    return Place("loss") if last >= 0 else None


def is_bad(tensor: torch.Tensor, *, severe: bool = True) -> bool:
    """Return whether `tensor` holds NaN or +Inf; where not `severe` also -Inf."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return False
    values = tensor.detach()
    values = values.coalesce().values() if values.is_sparse else values
    if bool(torch.isfinite(values).all()):
        return False
    return not severe or values.is_complex() or bool((values.isnan() | (values == torch.inf)).any())


def _nodes(loss: torch.Tensor, owners: Mapping[int, str]) -> list[_Node]:
    """Return the operations behind `loss` in the order in which they were called."""
    functions: set[Any] = set()
    waiting = [loss.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in functions or hasattr(function, "variable"):
            continue
        functions.add(function)
        waiting += [following for following, _ in function.next_functions]
    made: dict[Any, _Node] = {}
    for function in sorted(functions, key=lambda f: f._sequence_nr()):  # noqa: SLF001 - no public name
        made[function] = _node(function, made, owners)
    return [node for node in made.values() if node.name not in VIEWS]


def _node(function: Any, made: Mapping[Any, _Node], owners: Mapping[int, str]) -> _Node:  # noqa: ANN401
    name = function.name().rsplit("::", 1)[-1].rstrip("0123456789").removesuffix("Backward")
    node, own = _Node(function, name), []
    for following, _ in function.next_functions:
        if hasattr(following, "variable"):
            own.append(owners.get(following.variable.data_ptr(), ""))
        elif following in made:
            own += [made[following].layer] if _weight(made[following]) else []
            node.inputs += [] if _weight(made[following]) else [made[following]]
    own += [owners[p] for p in _pointers(function) if p in owners and name not in VIEWS]
    node.layer = next((layer for layer in own if layer), "")
    node.stem = node.layer or (node.inputs[-1].stem if node.inputs else "")
    return node


def _weight(node: _Node) -> bool:
    """Return whether a node only shows a parameter in another shape."""
    return node.name in VIEWS and bool(node.layer) and not node.inputs


@cache
def _fields(kind: Any) -> tuple[str, ...]:  # noqa: ANN401 - a type of node
    return tuple(name for name in dir(kind) if name.startswith("_saved_") and "running" not in name)


def _all_saved(function: Any) -> Iterator[tuple[str, torch.Tensor]]:  # noqa: ANN401
    for name in (*_fields(function.__class__), "saved_tensors"):
        try:
            value = getattr(function, name, None)
        except RuntimeError:
            continue  # freed, or written over since: autograd will say so itself
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, torch.Tensor):
                yield name, item


def _pointers(function: Any) -> list[int]:  # noqa: ANN401
    return [tensor.data_ptr() for _, tensor in _all_saved(function) if tensor.layout is torch.strided]


def _saved(function: Any, owners: Mapping[int, str]) -> list[tuple[str, torch.Tensor]]:  # noqa: ANN401
    """Return what a node keeps for backward, without parameters."""
    found = _all_saved(function)
    return [(name, t) for name, t in found if t.layout is not torch.strided or t.data_ptr() not in owners]


def _place(node: _Node, bad: list[str], bounds: Mapping[str, float], *, behind: bool) -> Place:
    """Return where the first bad value came from, given the first node that shows one."""
    if all("target" in name for name in bad):
        return Place("target")
    made_here = node.name in MAKERS and all("result" in name for name in bad)
    if made_here:
        return Place("loss") if behind else Place("forward", node.stem)
    if all("result" in name for name in bad) and node.layer:
        return Place("forward", node.layer)
    source = next((n for n in reversed(node.inputs) if n.stem), None) if node.inputs else None
    if source is None:
        return Place("input")
    if behind and not _may_overflow(_layer_op(source), bounds):
        return Place("loss")
    return Place("forward", source.stem)


def _layer_op(node: _Node) -> _Node:
    """Return the last operation with parameters on the way to `node`."""
    while not node.layer and node.inputs:
        node = next((n for n in reversed(node.inputs) if n.stem), node.inputs[-1])
    return node


def _may_overflow(op: _Node, bounds: Mapping[str, float]) -> bool:
    """Return whether the output of a layer can have been too large for its type, from its inputs and its weights."""
    inputs = [t for _, t in _all_saved(op.function) if t.is_floating_point() and t.numel()]
    if not inputs:
        return False
    largest = max(float(t.detach().abs().max()) for t in inputs)
    return not (largest + 1.0) * bounds.get(op.layer, torch.inf) < torch.finfo(inputs[0].dtype).max
