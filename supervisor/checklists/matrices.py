"""The weight matrices of a model with what good initial values for them would be.

He et al. (2015) before rectifiers, Glorot & Bengio (2010) before squashing functions and where no activation follows;
an orthogonal matrix (Saxe et al., 2014) lies between. All three keep the signal's size, by fan-in or fan-out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import ParametrizationList

from supervisor.activations import SQUASHING
from supervisor.checklists.first_pass import FirstPass
from supervisor.remedies._fresh import following

RECTIFIERS: Final = frozenset(
    {"relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"}
)


@dataclass(frozen=True)
class Matrix:
    """One trained weight: (units, inputs, ...), transposed convolutions turned to that."""

    layer: str
    values: Tensor  # detached
    gradient: Tensor | None  # of the values' shape
    fan_in: int
    fan_out: int
    function: str | None  # the activation that follows
    head: bool  # no other weight between it and the loss

    @property
    def std(self) -> float:
        """The standard deviation of the weights."""
        return float(self.values.float().std(correction=0))

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.values.float().mean())

    @property
    def size(self) -> float:
        """Their root mean square."""
        return float(self.values.float().square().mean().sqrt())

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest root mean square that the literature advises."""
        he = [math.sqrt(2 / self.fan_in), math.sqrt(2 / self.fan_out)]
        glorot = math.sqrt(2 / (self.fan_in + self.fan_out))
        plain = math.sqrt(1 / max(self.fan_in, self.fan_out))
        return min(*he, glorot, plain), max(*he, glorot)

    @property
    def neutral(self) -> float:
        """The root mean square that hands the signal on at its size."""
        gain = 1.0 if self.function is None or self.function in SQUASHING else 2.0
        return math.sqrt(gain / self.fan_in)

    @property
    def pytorch(self) -> bool:
        """Whether it looks like PyTorch's default, kaiming_uniform(a=sqrt(5)): 1 / sqrt(3 fan_in)."""
        return abs(self.size * math.sqrt(3 * self.fan_in) - 1) < 0.1


def matrices(now: FirstPass) -> Iterator[Matrix]:
    """Yield the trained weights of linear and convolutional layers in the order of the forward pass.

    Embeddings, weights tied to one, recurrent layers and parametrized weights (weight norm) are left out.
    """
    embedded = {
        id(p) for m in now.model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for p in m.parameters()
    }
    heads = _heads(now)
    for layer in now.matrices:
        module = now.model if layer == "model" else now.model.get_submodule(layer)
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase, ParametrizationList)):
            continue
        function = following(now.anatomy, layer)
        for name, p in module.named_parameters(recurse=False):
            usable = p.requires_grad and p.ndim > 1 and id(p) not in embedded and p.shape[0] > 0
            if usable and _multiplies(now, module, name, p):
                yield _matrix(now, layer, module, p, function, head=id(p) in heads)


def _multiplies(now: FirstPass, module: nn.Module, name: str, p: nn.Parameter) -> bool:
    """Return whether a parameter is a weight; a matrix in a module of unknown kind may as well be a position."""
    if isinstance(module, (nn.Linear, _ConvNd)):
        return name == "weight"
    return name == "in_proj_weight" or (now.depth is not None and id(p) in now.depth.weights)


def _heads(now: FirstPass) -> frozenset[int]:
    if now.depth is not None:
        return now.depth.heads
    last = now.matrices[-1:]
    return frozenset(id(p) for name in last if name != "model" for p in now.model.get_submodule(name).parameters())


def _matrix(
    now: FirstPass, layer: str, module: nn.Module, p: nn.Parameter, function: str | None, *, head: bool,
) -> Matrix:  # fmt: skip
    values, gradient = p.detach(), now.gradients.get(id(p))
    gradient = gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient
    field = math.prod(p.shape[2:])
    fan_in, fan_out = p.shape[1] * field, p.shape[0] * field
    if isinstance(module, _ConvTransposeNd):
        values, gradient = values.transpose(0, 1), None if gradient is None else gradient.transpose(0, 1)
    elif isinstance(module, _ConvNd):
        fan_out //= module.groups
    elif isinstance(module, nn.MultiheadAttention) and p is module.in_proj_weight:
        fan_out //= 3  # query, key and value lie below one another
    return Matrix(layer, values, gradient, max(1, fan_in), max(1, fan_out), function, head)


def alike(rows: Tensor) -> bool:
    """Return whether all rows of a matrix are equal, to rounding."""
    flat = rows.flatten(1).float()
    away = torch.linalg.vector_norm(flat - flat.mean(0))
    return bool(away <= 1e-5 * torch.linalg.vector_norm(flat))
