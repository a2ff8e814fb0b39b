"""Networks of dense layers, as people write them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Fn = Callable[[Tensor], Tensor]


def stack(
    sizes: list[int], activation: Callable[[], nn.Module], norm: Callable[[int], nn.Module] | None = None
) -> nn.Sequential:
    """Return linear layers with an activation, and a norm before it, after each but the last."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(fan_in, fan_out))
        if i < len(sizes) - 2:
            layers += [norm(fan_out), activation()] if norm else [activation()]
    return nn.Sequential(*layers)


class Functional(nn.Module):
    """Linear layers; the activation is a function called in forward."""

    def __init__(self, sizes: list[int], function: Fn, last: Fn | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.function, self.last = function, last

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.function(layer(x))
        x = self.layers[-1](x)
        return self.last(x) if self.last is not None else x


class Highway(nn.Module):
    """Highway layers: a transform, and a gate that carries the input past it."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, gate_bias: float = -1.0) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.transforms = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.leave = nn.Linear(width, outputs)
        for gate in self.gates:
            assert isinstance(gate, nn.Linear)
            nn.init.constant_(gate.bias, gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.enter(x))
        for transform, gate in zip(self.transforms, self.gates, strict=True):
            share = torch.sigmoid(gate(x))
            x = share * torch.tanh(transform(x)) + (1 - share) * x
        result: Tensor = self.leave(x)
        return result


class Concat(nn.Module):
    """Each layer reads the outputs of all before it."""

    def __init__(self, inputs: int, growth: int, depth: int, outputs: int, function: Fn) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs + i * growth, growth) for i in range(depth))
        self.leave = nn.Linear(inputs + depth * growth, outputs)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, self.function(layer(x))], -1)
        result: Tensor = self.leave(x)
        return result


class Residual(nn.Module):
    """Blocks x + gate * branch(norm(x))."""

    def __init__(
        self,
        sizes: tuple[int, int, int],
        depth: int,
        function: Fn = F.relu,
        *,
        norm: bool = True,
        gate: float | None = None,
    ) -> None:
        super().__init__()
        inputs, width, outputs = sizes
        self.enter = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth))
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gates = nn.ParameterList(nn.Parameter(torch.tensor(gate)) for _ in range(depth if gate is not None else 0))
        self.leave = nn.Linear(width, outputs)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for i, (norm, first, second) in enumerate(zip(self.norms, self.first, self.second, strict=True)):
            branch = second(self.function(first(norm(x))))
            x = x + (self.gates[i] * branch if len(self.gates) else branch)
        result: Tensor = self.leave(x)
        return result


class Maxout(nn.Module):
    """Each unit is the largest of several linear ones."""

    def __init__(self, sizes: list[int], pieces: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b * pieces) for a, b in pairwise(sizes[:-1]))
        self.leave = nn.Linear(sizes[-2], sizes[-1])
        self.pieces, self.dropout = pieces, nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.dropout(layer(x).unflatten(-1, (-1, self.pieces)).amax(-1))
        result: Tensor = self.leave(x)
        return result


class Gated(nn.Module):
    """Feed-forward blocks value * function(gate), as in GLU (sigmoid) and SwiGLU (silu)."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, function: Fn) -> None:
        super().__init__()
        self.values = nn.ModuleList(nn.Linear(width if i else inputs, width) for i in range(depth))
        self.gates = nn.ModuleList(nn.Linear(width if i else inputs, width) for i in range(depth))
        self.leave = nn.Linear(width, outputs)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        for value, gate in zip(self.values, self.gates, strict=True):
            x = value(x) * self.function(gate(x))
        result: Tensor = self.leave(x)
        return result


class Radial(nn.Module):
    """Gaussian bumps around trained centres, and a linear layer."""

    def __init__(self, inputs: int, bumps: int, outputs: int, width: float, spread: float = 1.0) -> None:
        super().__init__()
        self.centres = nn.Parameter(spread * torch.randn(bumps, inputs))
        self.log_width = nn.Parameter(torch.full((bumps,), width).log())
        self.leave = nn.Linear(bumps, outputs)

    def forward(self, x: Tensor) -> Tensor:
        distance = (x[:, None] - self.centres).square().sum(-1)
        result: Tensor = self.leave(torch.exp(-distance / (2 * self.log_width.exp().square())))
        return result


class Experts(nn.Module):
    """A mixture of experts; each sample goes to the one or two experts that its router likes best."""

    def __init__(self, inputs: int, width: int, outputs: int, experts: int = 4, top: int = 1) -> None:
        super().__init__()
        self.router = nn.Linear(inputs, experts)
        self.experts = nn.ModuleList(stack([inputs, width, outputs], nn.ReLU) for _ in range(experts))
        self.top = top

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = torch.softmax(self.router(x), -1).topk(self.top, -1)
        out = torch.stack([expert(x) for expert in self.experts], 1)  # (batch, experts, outputs)
        picked = out.gather(1, chosen[..., None].expand(-1, -1, out.shape[-1]))
        return (share[..., None] * picked).sum(1)


class Siamese(nn.Module):
    """One encoder for both of a pair; the logit that they are alike falls with the distance of their codes."""

    def __init__(self, encoder: nn.Module, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.distance = encoder, distance
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (self.shift - self.scale * self.distance(self.encoder(x[:, 0]), self.encoder(x[:, 1])))[:, None]


class LowRank(nn.Module):
    """A frozen linear layer beside a trained product of two thin matrices, the second of which starts at zero."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x) + x @ self.down.T @ self.up.T
        return result
