"""The networks of the development half: small, in module and in functional style."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]
Activation = Callable[[], nn.Module]


def mlp(*sizes: int, act: Activation = nn.ReLU, last: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    """Return linear layers of these sizes with an activation between them; `last` follows the output."""
    layers: list[nn.Module] = []
    for i, (width, following) in enumerate(pairwise(sizes)):
        layers += [act(), nn.Linear(width, following)] if i else [nn.Linear(width, following)]
    return nn.Sequential(*layers, *last)


class Functional(nn.Module):
    """An MLP that calls its activation as a function."""

    def __init__(self, *sizes: int, function: Function = F.relu) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, following) for width, following in pairwise(sizes))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last layer."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.function(layer(x))
        return last(x)  # type: ignore[no-any-return]


class Images(nn.Module):
    """Convolutions over 8x8 images, halved after the second, in functional style."""

    def __init__(self, *channels: int, function: Function = F.relu, norm: bool = False) -> None:
        super().__init__()
        pairs = list(pairwise((1, *channels)))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) if norm else nn.Identity() for _, b in pairs)
        self.head, self.function = nn.Linear(16 * channels[-1], 10), function

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = self.function(norm(conv(x)))
            if i == min(1, len(self.convs) - 1):
                x = F.max_pool2d(x, 2)
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


def cnn(*channels: int, act: Activation = nn.ReLU, norm: bool = False) -> nn.Sequential:
    """Return convolutions over 8x8 images, halved at the end, in module style."""
    layers: list[nn.Module] = []
    for a, b in pairwise((1, *channels)):
        layers += [nn.Conv2d(a, b, 3, padding=1), *([nn.BatchNorm2d(b)] if norm else []), act()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * channels[-1], 10))


class Reader(nn.Module):
    """Reads a sequence, of tokens where `letters` are given, and answers from its last state."""

    def __init__(
        self, kind: Callable[..., nn.Module], inputs: int, hidden: int, outputs: int, *, letters: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(letters, inputs) if letters else nn.Identity()
        self.rnn = kind(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer, (batch, outputs)."""
        return self.head(self.rnn(self.embed(x))[0][:, -1])  # type: ignore[no-any-return]


class Loop(nn.Module):
    """A recurrent network written by hand."""

    def __init__(self, inputs: int, hidden: int, outputs: int, function: Function = torch.tanh) -> None:
        super().__init__()
        self.inward, self.across = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden, bias=False)
        self.head, self.function = nn.Linear(hidden, outputs), function

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer, (batch, outputs)."""
        state = x.new_zeros(len(x), self.across.in_features)
        for now in x.unbind(1):
            state = self.function(self.inward(now) + self.across(state))
        return self.head(state)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and an MLP by hand, each beside a skip connection and behind a norm, where there are such."""

    def __init__(self, width: int, *, skip: bool, norm: bool, causal: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(2))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.skip, self.causal, self.heads = skip, causal, 2

    def attend(self, x: Tensor) -> Tensor:
        """Return what every place gathers from the places it may see; x: (batch, places, width)."""
        n, places, width = x.shape
        q, k, v = (
            f(x).view(n, places, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value)
        )  # fmt: skip
        score = q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5
        if self.causal:
            score = score.masked_fill(torch.ones(places, places, dtype=torch.bool).triu(1), float("-inf"))
        gathered = torch.softmax(score, -1) @ v
        return self.out(gathered.transpose(1, 2).reshape(n, places, width))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Return what follows x."""
        inner = self.attend(self.norms[0](x))
        x = x + inner if self.skip else inner
        inner = self.down(F.relu(self.up(self.norms[1](x))))
        out: Tensor = x + inner if self.skip else inner
        return out


class Transformer(nn.Module):
    """Reads tokens or vectors; answers once, or at every place where it is causal."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        places: int,
        *,
        tokens: bool = False,
        width: int = 32,
        depth: int = 2,
        skip: bool = True,
        norm: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.embed: nn.Module = nn.Embedding(inputs, width) if tokens else nn.Linear(inputs, width)
        self.position = nn.Parameter(0.1 * torch.randn(places, width))
        self.blocks = nn.Sequential(*(Block(width, skip=skip, norm=norm, causal=causal) for _ in range(depth)))
        self.head, self.causal = nn.Linear(width, outputs), causal

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (batch, outputs) or (batch, places, outputs)."""
        y = self.blocks(self.embed(x) + self.position)
        return self.head(y if self.causal else y.mean(1))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A deep MLP of blocks of two layers, with skip connections; `gate` scales each block's own part."""

    def __init__(
        self,
        *sizes: int,
        depth: int = 8,
        skip: bool = True,
        norm: bool = False,
        gate: float | None = None,
        function: Function = F.relu,
    ) -> None:
        super().__init__()
        inputs, width, outputs = sizes
        self.stem, self.head = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth))
        self.gates = nn.ParameterList(torch.full((1,), gate) for _ in range(depth) if gate is not None)
        self.skip, self.function = skip, function

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the head."""
        x = self.function(self.stem(x))
        for i, (first, second, norm) in enumerate(zip(self.first, self.second, self.norms, strict=True)):
            inner = second(self.function(first(norm(x))))
            inner = inner * self.gates[i] if self.gates else inner
            x = x + inner if self.skip else self.function(inner)
        return self.head(x)  # type: ignore[no-any-return]
