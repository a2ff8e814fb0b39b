"""Recurrent networks, from cells in a loop to encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Loop(nn.Module):
    """A cell called by hand, step by step; the last state is read."""

    def __init__(self, cell: nn.RNNCell | nn.GRUCell, letters: int | None, width: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, cell.input_size) if letters is not None else nn.Identity()
        self.cell, self.leave, self.width = cell, nn.Linear(width, outputs), width

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.embed(x)
        state = inputs.new_zeros(len(inputs), self.width)
        for t in range(inputs.shape[1]):
            state = self.cell(inputs[:, t], state)
        result: Tensor = self.leave(state)
        return result


class Reader(nn.Module):
    """A recurrent layer over vectors or tokens; its last output is read, or the one of every place."""

    def __init__(
        self,
        rnn: nn.RNNBase,
        outputs: int,
        letters: int | None = None,
        *,
        everywhere: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, rnn.input_size) if letters is not None else nn.Identity()
        self.rnn = rnn
        self.dropout = nn.Dropout(dropout)
        self.leave = nn.Linear(rnn.hidden_size * (2 if rnn.bidirectional else 1), outputs)
        self.everywhere = everywhere

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(self.embed(x))
        result: Tensor = self.leave(self.dropout(out if self.everywhere else out[:, -1]))
        return result


class Packed(nn.Module):
    """A GRU over padded tokens, packed by their lengths."""

    def __init__(self, letters: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, 16, padding_idx=0)
        self.rnn = nn.GRU(16, width, batch_first=True)
        self.leave = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        lengths = (x > 0).sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        result: Tensor = self.leave(self.rnn(packed)[1][0])
        return result


class Translator(nn.Module):
    """A GRU reads the tokens, another writes as many; the writer is fed the reader's last state at every place."""

    def __init__(self, letters: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, width)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.writer = nn.GRU(width, width, batch_first=True)
        self.places = nn.Parameter(0.1 * torch.randn(16, width))
        self.leave = nn.Linear(width, letters)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.reader(self.embed(x))
        places = self.places[: x.shape[1]].expand(len(x), -1, -1)
        result: Tensor = self.leave(self.writer(state[0][:, None] + places, state)[0])
        return result


def identity_recurrence(model: nn.Module, gain: float = 1.0) -> None:
    """Set every recurrent matrix of plain RNNs to `gain` times the identity, as IRNNs begin."""
    for name, p in model.named_parameters():
        if "weight_hh" in name and p.shape[0] == p.shape[1]:
            nn.init.eye_(p).data.mul_(gain)
        elif "weight_ih" in name:
            nn.init.normal_(p, std=0.1)
        elif "bias_ih" in name or "bias_hh" in name:
            nn.init.zeros_(p)


Init = Callable[[nn.Module], None]


def orthogonal(gain: float) -> Init:
    def init(model: nn.Module) -> None:
        for name, p in model.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(p, gain)

    return init


def every(std: float) -> Init:
    def init(model: nn.Module) -> None:
        for name, p in model.named_parameters():
            if "rnn.weight" in name:
                nn.init.normal_(p, std=std)

    return init
