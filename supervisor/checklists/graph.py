"""What the autograd graph of a loss tells: how many weight matrices a signal passes, and which way is the shortest.

The graph holds whatever the code did, modules or not. The longest way from the loss to the inputs counts the depth; a
network with skip connections (sums, concatenations) has a way that is much shorter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

Node = Any  # torch.autograd.graph.Node

_PRODUCTS: Final = ("Addmm", "Mm", "Bmm", "Baddbmm", "Addmv", "Mv", "Linear", "Conv", "Mkldnn", "Cudnn", "Miopen")
_SHAPES: Final = (
    *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T", "Select"),
    *("Slice", "Clone", "ToCopy", "Expand", "Index", "Alias", "Detach", "Unbind", "Split", "Narrow", "Flatten"),
)
_SMALL: Final = 12  # nodes between a parameter and its use: transposed, cast, normalized


@dataclass(frozen=True)
class Depth:
    """The ways from the loss to the layer farthest from it, in weight matrices."""

    longest: int
    shortest: int
    heads: frozenset[int] = frozenset()  # ids of the weights with no other weight between them and the loss
    weights: frozenset[int] = frozenset()  # ids of all matrices that something is multiplied by

    @property
    def skips(self) -> bool:
        """Whether there is a way that leaves out a good part of the matrices, and not just one."""
        return self.shortest <= min(0.7 * self.longest, self.longest - 2)


def depth_of(root: Node | None) -> Depth | None:
    """Return the depth of the network behind a loss, or None where there is no graph.

    A weight used again and again in one forward pass (a recurrent cell in a loop) counts once.
    """
    if root is None:
        return None
    order = _topological(root)
    weights = {node: ids for node in order if (ids := _weights(node))}
    uses = Counter(identity for ids in weights.values() for identity in ids)
    cost = {node: max(1 / uses[identity] for identity in ids) for node, ids in weights.items()}
    longest, shortest = {root: cost.get(root, 0.0)}, {root: cost.get(root, 0.0)}
    first = {root: 0}  # uses of weights before a node, at least
    for node in order:
        for child in _children(node):
            step = cost.get(child, 0.0)
            longest[child] = max(longest.get(child, 0.0), longest[node] + step)
            shortest[child] = min(shortest.get(child, float("inf")), shortest[node] + step)
            first[child] = min(first.get(child, 10**9), first[node] + (node in weights))
    if not weights:
        return None
    deepest = max(weights, key=lambda node: longest[node])
    heads = frozenset(identity for node, ids in weights.items() if first[node] == 0 for identity in ids)
    return Depth(round(longest[deepest]), round(shortest[deepest]), heads, frozenset(uses))


def made_by(tensor: torch.Tensor) -> str:
    """Return what computed `tensor`, shapes aside: "softmax", "sigmoid", "relu", ...; "" for a leaf."""
    node = tensor.grad_fn
    while node is not None and _kind(node) in _SHAPES:
        node = next((child for child, _ in node.next_functions if child is not None), None)
    return "" if node is None else _snake(_kind(node))


def _kind(node: Node) -> str:
    return str(node.name()).split("Backward")[0].rsplit("::", 1)[-1]


def _snake(kind: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind).lstrip("_")


def _children(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]


def _topological(root: Node) -> list[Node]:
    """Return all nodes, each before those it leads to."""
    done: set[Node] = set()
    order: list[Node] = []
    stack: list[tuple[Node, Iterator[Node]]] = [(root, iter(_children(root)))]
    done.add(root)
    while stack:
        node, children = stack[-1]
        child = next(children, None)
        if child is None:
            order.append(node)
            stack.pop()
        elif child not in done:
            done.add(child)
            stack.append((child, iter(_children(child))))
    return order[::-1]


def _weights(node: Node) -> frozenset[int]:
    """Return the ids of the matrices that a product takes in; none for what is no product with a parameter."""
    if not _kind(node).startswith(_PRODUCTS):
        return frozenset()
    return frozenset(identity for child in _children(node) for identity in _parameters(child))


def _parameters(node: Node) -> set[int]:
    """Return the ids of the matrices that `node` is computed from, if it is computed from parameters alone."""
    found: set[int] = set()
    stack, seen = [node], 0
    while stack:
        here, seen = stack.pop(), seen + 1
        variable = getattr(here, "variable", None)
        if variable is not None:
            found |= {id(variable)} if variable.ndim > 1 else set()
        elif seen > _SMALL or _kind(here).startswith(_PRODUCTS):
            return set()
        else:
            stack += _children(here)
    return found
