"""Transformers: attention written by hand and torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention with an explicit softmax."""

    def __init__(self, width: int, heads: int, *, scaled: bool = True, causal: bool = True) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.scaled, self.causal = heads, scaled, causal

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:  # padding: (batch, length), True is ignored
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (math.sqrt(q.shape[-1]) if self.scaled else 1.0)
        if self.causal:
            scores = scores.masked_fill(torch.ones(x.shape[1], x.shape[1]).triu(1).bool(), -math.inf)
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, None], -math.inf)
        result: Tensor = self.out((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    """Attention and a feed-forward net, with the usual options and the usual mistakes."""

    def __init__(
        self,
        width: int,
        heads: int,
        function: Callable[[Tensor], Tensor],
        *,
        skip: bool,
        norm: bool,
        gate: float | None,
        scaled: bool,
        causal: bool,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width) if norm else nn.Identity()
        self.norm2 = nn.LayerNorm(width) if norm else nn.Identity()
        self.attention = Attention(width, heads, scaled=scaled, causal=causal)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gate = nn.Parameter(torch.tensor(gate)) if gate is not None else None
        self.function, self.skip = function, skip

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        if not self.skip:
            return branch
        return x + (branch if self.gate is None else self.gate * branch)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        x = self._add(x, self.attention(self.norm1(x), padding))
        return self._add(x, self.down(self.function(self.up(self.norm2(x)))))


class Former(nn.Module):
    """Tokens in; the logits of each place's next token, or of one label read from the mean over places."""

    def __init__(
        self,
        letters: int,
        outputs: int,
        *,
        width: int = 32,
        depth: int = 2,
        heads: int = 2,
        function: Callable[[Tensor], Tensor] = F.gelu,
        label: bool = False,
        skip: bool = True,
        norm: bool = True,
        gate: float | None = None,
        scaled: bool = True,
        padded: bool = False,
        tied: bool = False,
        last: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(letters, width), nn.Parameter(0.02 * torch.randn(64, width))
        options = {"skip": skip, "norm": norm, "gate": gate, "scaled": scaled, "causal": not label}
        self.blocks = nn.ModuleList(Block(width, heads, function, **options) for _ in range(depth))  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.leave = nn.Linear(width, outputs)
        if tied:
            nn.init.normal_(self.embed.weight, std=0.1)
            self.leave.weight = self.embed.weight
        self.label, self.padded, self.last = label, padded, last

    def forward(self, x: Tensor) -> Tensor:
        padding = x == 0 if self.padded else None
        h = self.embed(x) + self.place[: x.shape[1]]
        for block in self.blocks:
            h = block(h, padding)
        h = self.norm(h)
        if self.label:
            keep = (~padding).float()[..., None] if padding is not None else torch.ones_like(h[..., :1])
            h = (h * keep).sum(1) / keep.sum(1).clamp_min(1.0)
        out = self.leave(h)
        return out if self.last is None else self.last(out)


class Patches(nn.Module):
    """nn.MultiheadAttention over the eight rows of a digit, post-norm, as in the first transformer."""

    def __init__(self, width: int = 32, depth: int = 2, function: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.enter, self.place = nn.Linear(8, width), nn.Parameter(0.02 * torch.randn(8, width))
        self.attention = nn.ModuleList(nn.MultiheadAttention(width, 4, batch_first=True) for _ in range(depth))
        self.feed = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.back = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.leave, self.function = nn.Linear(width, 10), function

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x) + self.place
        for i, (attention, feed, back) in enumerate(zip(self.attention, self.feed, self.back, strict=True)):
            h = self.norms[2 * i](h + attention(h, h, h, need_weights=False)[0])
            h = self.norms[2 * i + 1](h + back(self.function(feed(h))))
        result: Tensor = self.leave(h.mean(1))
        return result
