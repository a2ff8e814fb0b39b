"""A training with nothing wrong: the supervisor watches every tick and touches nothing.

Three seeds. Each is trained twice, without and with the supervisor, and the weights are compared bit for bit.
"""

from __future__ import annotations

import torch
from _digits import Case, digits, parser, train_bare, train_supervised
from torch import nn


def network() -> nn.Sequential:
    """Return a small CNN with batch normalization and dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * 4 * 4, 10),
    )


CASE = Case(
    title="a healthy CNN",
    network=network,
    optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    epochs=15,
)


def main() -> None:
    """Train three seeds twice and print what was found."""
    settings = parser(__doc__).parse_args()
    for seed in range(3):
        torch.manual_seed(seed)
        bare = train_bare(CASE, digits(seed)[0])
        torch.manual_seed(seed)
        supervised, report = train_supervised(CASE, *digits(seed), tracking=settings.tracking)
        pairs = zip(bare.state_dict().values(), supervised.state_dict().values(), strict=True)
        same = all(torch.equal(mine, theirs) for mine, theirs in pairs)
        score = report.evaluations[-1]["metrics"]["accuracy"]
        identical = "identical" if same else "DIFFERENT"
        print(
            f"seed {seed}: {report.health}, {len(report.interventions)} interventions, held-out accuracy {score:.3f}, "
            f"weights bit for bit {identical} to the run without the supervisor",
        )


if __name__ == "__main__":
    main()
