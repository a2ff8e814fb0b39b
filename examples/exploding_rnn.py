"""A recurrent network over the rows of an image that diverges, and the same one brought back.

The same matrix is multiplied at every row, so a learning rate that is ten times too high blows the gradients up and the
weights after them. The supervisor clips, finds that the weights are off already, rolls back, and lowers the learning
rate where it explodes again.
"""

from __future__ import annotations

import torch
from _digits import Case, compare
from torch import nn


class RowReader(nn.Module):
    """Reads an 8x8 image row by row and names the digit from its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, 64, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, 8, 8) to scores (batch, 10)."""
        states, _ = self.rnn(images.squeeze(1))
        return self.head(states[:, -1])  # type: ignore[no-any-return]


CASE = Case(
    title="an RNN at ten times its learning rate",
    network=RowReader,
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9),
    epochs=40,
    seed=1,
    twin_optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
)

if __name__ == "__main__":
    compare(CASE)
