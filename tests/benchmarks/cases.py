"""The trainings whose cost is measured: models, data that can be learned, and the bare train step."""

from __future__ import annotations

import argparse as _text_source
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

Batch = tuple[torch.Tensor, torch.Tensor]  # inputs, labels

POOL: Final = 64  # different batches
TOKENS: Final = 128  # ASCII


@dataclass
class Training:
    """A fresh model with its data, and how its loss is computed."""

    model: nn.Module
    pool: list[Batch]
    loss: Callable[[Batch], torch.Tensor]
    fused: bool = False

    def optimizer(self) -> torch.optim.Optimizer:
        """Return a new AdamW; the fused one on a GPU, where everybody uses it."""
        return torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=self.fused)


@dataclass(frozen=True)
class Case:
    """A training to be measured, and for how many steps a run lasts."""

    name: str
    build: Callable[[], Training]
    steps: int


def _classifying(model: nn.Module, pool: list[Batch]) -> Training:
    return Training(model, pool, lambda batch: cross_entropy(model(batch[0]), batch[1]))


def mlp() -> Training:
    """Return 8 layers of 128, batch 64: bound by dispatch, the hardest case for any monitor."""
    layers = [part for _ in range(7) for part in (nn.Linear(128, 128), nn.ReLU())]
    teacher = torch.randn(128, 10)
    inputs = [torch.randn(64, 128) for _ in range(POOL)]
    return _classifying(nn.Sequential(*layers, nn.Linear(128, 10)), [(x, (x @ teacher).argmax(1)) for x in inputs])


def cnn() -> Training:
    """Return three convolutions of 32 to 64 channels with BatchNorm on 3x32x32, batch 32."""
    blocks = [
        part
        for a, b in itertools.pairwise((3, 32, 64, 64))
        for part in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
    ]
    prototypes = torch.randn(10, 3, 32, 32)
    labels = [torch.randint(0, 10, (32,)) for _ in range(POOL)]
    pool = [(prototypes[y] + torch.randn(32, 3, 32, 32), y) for y in labels]
    return _classifying(nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 16, 10)), pool)


class Block(nn.Module):
    """Attention and a feed-forward net of four times the width, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, T, width) to the same shape."""
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)  # (batch, heads, T, width / heads)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(x)  # type: ignore[no-any-return]


class Gpt(nn.Module):
    """A decoder-only transformer with learned positions and tied embeddings."""

    def __init__(self, layers: int, width: int, heads: int, context: int, tokens: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(tokens, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width))
        self.head = nn.Linear(width, tokens, bias=False)
        self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Map (batch, T) to scores (batch * T, tokens)."""
        places = torch.arange(text.shape[1], device=text.device)
        return self.head(self.blocks(self.tokens(text) + self.places(places))).flatten(0, 1)  # type: ignore[no-any-return]


def _texts(batch: int, length: int, device: str = "cpu") -> list[Batch]:
    """Return passages of a module of Python's own library, character by character."""
    letters = torch.frombuffer(bytearray(inspect.getsource(_text_source), "ascii", "replace"), dtype=torch.uint8).long()
    starts = torch.randint(0, len(letters) - length - 1, (POOL, batch))
    texts = letters[starts[..., None] + torch.arange(length + 1)].clamp(max=TOKENS - 1).to(device)
    return [(text[:, :-1], text[:, 1:].flatten()) for text in texts]


def gpt() -> Training:
    """Return 4 layers, d = 256, T = 128, batch 8, over ASCII."""
    return _classifying(Gpt(4, 256, 4, 128, TOKENS), _texts(8, 128))


def gpt_124m(*, compiled: bool) -> Training:
    """Return GPT-2's smallest size (124 M parameters) in bf16 on a GPU, T = 1024, batch 8."""
    model = Gpt(12, 768, 12, 1024, 50_304).cuda()
    forward = torch.compile(model) if compiled else model

    def loss(batch: Batch) -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return cross_entropy(forward(batch[0]), batch[1])

    return Training(model, _texts(8, 1024, "cuda"), loss, fused=True)


def cases() -> dict[str, Case]:
    """Return all cases that this machine can run."""
    found = [Case("mlp", mlp, 3000), Case("cnn", cnn, 600), Case("gpt", gpt, 120)]
    if torch.cuda.is_available():
        found += [
            Case("gpt-124m", lambda: gpt_124m(compiled=False), 200),
            Case("gpt-124m-compiled", lambda: gpt_124m(compiled=True), 200),
        ]
    return {case.name: case for case in found}
