"""Healthy trainings on text, whose tokens make others cry wolf: rare rows, ties, padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.clinic.case import Case
from supervisor.clinic.development._build import Recipe, adam, adamw, healthy, sgd
from supervisor.clinic.tasks import TEXT_LETTERS, Batch, Task, text


class Tied(nn.Module):
    """A recurrent language model whose output weights are its embedding."""

    def __init__(self, *, sparse: bool = False, letters: int = TEXT_LETTERS) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, 32, sparse=sparse)
        self.rnn, self.head = nn.GRU(32, 32, batch_first=True), nn.Linear(32, letters)
        nn.init.normal_(self.embed.weight, std=0.3)
        if not sparse:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return logits at every place."""
        return self.head(self.rnn(self.embed(x))[0])  # type: ignore[no-any-return]


class Padded(nn.Module):
    """A transformer of torch's own, over the first letters of a text: the rest is padding, dropout besides."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TEXT_LETTERS + 1, 32, padding_idx=TEXT_LETTERS)
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, TEXT_LETTERS)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits at every place; what follows the row's own length, 4 to 16, is padding."""
        padding = (torch.arange(x.shape[1]) >= 4 + x[:, :1] % 13) & self.training
        embedded = self.embed(x.masked_fill(padding, TEXT_LETTERS))
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.head(self.encoder(embedded, mask=causal, src_key_padding_mask=padding))  # type: ignore[no-any-return]


def unpadded(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy over the places that are no padding."""
    own = torch.arange(batch[0].shape[1]) < 4 + batch[0][:, :1] % 13
    return F.cross_entropy(model(batch[0])[own], batch[1][own])


def short_text() -> Task:
    """Return windows of 16 letters."""
    return text(16)


CASES: tuple[Case, ...] = (
    healthy(
        "rnn/tied-weights", Recipe(short_text, Tied, adam(5e-3), steps=500, size=16),
        "one matrix at both ends, a language's entropy as floor",
    ),
    healthy(
        "rnn/sparse-embedding",
        Recipe(short_text, lambda: Tied(sparse=True, letters=600), sgd(0.5, 0.0), steps=500, size=16),
        "sparse gradients; of 600 rows few are ever touched",
    ),
    healthy(
        "transformer/padding-masks-dropout", Recipe(short_text, Padded, adamw(5e-3), unpadded, steps=400, size=16),
        "padding, masks and dropout make zeros",
    ),
)  # fmt: skip
