"""Healthy trainings of networks whose build makes others cry wolf."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adam, adamw, healthy, sgd
from supervisor.clinic.development._models import Functional, Images, Loop, Reader, Residual, cnn, mlp
from supervisor.clinic.tasks import digits, images, pixels, recall, rows


class Squeezed(nn.Module):
    """Convolutions whose channels are gated by sigmoids of their means."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)])
        self.gates = nn.ModuleList([nn.Linear(8, 8), nn.Linear(16, 16)])
        self.head = nn.Linear(64 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        for conv, gate in zip(self.convs, self.gates, strict=True):
            x = F.relu(conv(x))
            x = x * torch.sigmoid(gate(x.mean((2, 3))))[:, :, None, None]
        return self.head(F.avg_pool2d(x, 2).flatten(1))  # type: ignore[no-any-return]


class Unused(nn.Module):
    """A network with a second head that no loss ever sees."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.other = mlp(64, 48, 48), nn.Linear(48, 10), nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the first head."""
        return self.head(F.relu(self.body(x)))  # type: ignore[no-any-return]


class Experts(nn.Module):
    """Four experts of which a router picks one for each sample: the others see zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(64, 4)
        self.experts = nn.ModuleList(mlp(64, 32, 10) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        share = torch.softmax(self.router(x), -1)
        weight, chosen = share.max(-1)
        picked = F.one_hot(chosen, 4).float() * weight[:, None]
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        return (answers * picked[:, :, None]).sum(1)


def dropping() -> nn.Module:
    """Return an MLP that drops half of its units."""
    return nn.Sequential(
        nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 10),
    )  # fmt: skip


def normed(depth: int = 8) -> nn.Module:
    """Return a deep MLP with a norm before every GELU."""
    blocks = [(nn.Linear(64 if i == 0 else 48, 48), nn.LayerNorm(48), nn.GELU()) for i in range(depth)]
    return nn.Sequential(*(layer for block in blocks for layer in block), nn.Linear(48, 10))


def freeze(model: nn.Module) -> None:
    """Train the last layer alone."""
    faults.he(model)
    for p in list(model.parameters())[:-2]:
        p.requires_grad = False


@torch.no_grad()
def silent_branches(model: nn.Module) -> None:
    """Start every block as the identity: its second layer at zero."""
    assert isinstance(model, Residual)
    for layer in model.second:
        layer.weight.zero_()  # type: ignore[operator]
        layer.bias.zero_()  # type: ignore[operator]


@torch.no_grad()
def remembering(model: nn.Module) -> None:
    """Open the forget gates wide, as is done for long memories: they sit at their end."""
    assert isinstance(model, Reader)
    model.rnn.bias_hh_l0[32:64] = 5.0  # type: ignore[operator]


@torch.no_grad()
def awake(model: nn.Module) -> None:
    """Initialize for sigmoids: four times Glorot's, biases that keep them centred."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, gain=4.0)
            layer.bias.copy_(-0.5 * layer.weight.sum(1))


CASES: tuple[Case, ...] = (
    healthy(
        "mlp/wide-relu-sgd", Recipe(digits, lambda: mlp(64, 256, 128, 64, 10), sgd(0.1), prepare=faults.he),
        "most activations are zero and no unit is dead",
    ),
    healthy(
        "mlp/default-init-8-layers", Recipe(digits, lambda: mlp(64, *[48] * 7, 10), adam(), steps=900),
        "at first the signal fades beside the biases and half of the later units are silent",
    ),
    healthy(
        "mlp/too-many-units", Recipe(digits, lambda: Functional(64, 512, 512, 10), adam(2e-3), steps=400),
        "units are left over, some of them silent for good",
    ),
    healthy(
        "mlp/tanh-10-layers",
        Recipe(digits, lambda: mlp(64, *[40] * 9, 10, act=nn.Tanh), sgd(0.02), prepare=faults.xavier),
        "a deep network of squashing units that learns",
    ),
    healthy(
        "mlp/sigmoid-5-layers",
        Recipe(digits, lambda: mlp(64, *[48] * 4, 10, act=nn.Sigmoid), adam(3e-3), prepare=awake),
        "gradients fall by decades towards the input, and yet it learns",
    ),
    healthy(
        "mlp/norm-gelu-8-layers", Recipe(digits, normed, adamw(1e-3), steps=600),
        "gradients before norms scale with 1 / weights",
    ),
    healthy("mlp/half-of-all-units-dropped", Recipe(digits, dropping, adam(2e-3)), "dropout makes zeros and noise"),
    healthy(
        "mlp/frozen-body", Recipe(digits, lambda: mlp(64, 128, 128, 10), adam(3e-3), prepare=freeze),
        "most parameters have no gradient",
    ),
    healthy("mlp/unused-head", Recipe(digits, Unused, adamw(2e-3)), "parameters whose gradient is None"),
    healthy(
        "other/experts", Recipe(digits, Experts, adam(2e-3)),
        "routing makes zeros; a starved expert has no gradient",
    ),
    healthy(
        "residual/gates-start-at-zero",
        Recipe(digits, lambda: Residual(64, 32, 10, depth=12, gate=0.0), adam(2e-3), steps=600),
        "at first no gradient reaches what lies behind the gates",
    ),
    healthy(
        "residual/second-layers-start-at-zero",
        Recipe(digits, lambda: Residual(64, 32, 10, depth=8), sgd(0.02), prepare=silent_branches, steps=700),
        "half of the layers get no gradient in the first ticks",
    ),
    healthy(
        "residual/tanh-relay",
        Recipe(digits, lambda: Residual(64, 32, 10, depth=6, function=torch.tanh), adamw(2e-3), steps=600),
        "activations grow along the skips",
    ),
    healthy(
        "cnn/biases-before-batchnorm", Recipe(images, lambda: cnn(8, 12, norm=True), sgd(0.05), steps=600),
        "biases that a norm cancels get gradients of rounding errors only",
    ),
    healthy(
        "cnn/batchnorm-of-four", Recipe(images, lambda: Images(8, 12, norm=True), adam(2e-3), steps=900, size=4),
        "statistics of four samples make loss and gradients jump",
    ),
    healthy(
        "cnn/squeeze-excitation", Recipe(images, Squeezed, adam(3e-3), steps=600),
        "gates by design sit near an end",
    ),
    healthy("cnn/leaky", Recipe(images, lambda: cnn(8, 12, act=nn.LeakyReLU), sgd(0.05), steps=600), "no unit can die"),
    healthy(
        "rnn/forget-gates-wide-open",
        Recipe(
            lambda: recall(20, 4), lambda: Reader(nn.LSTM, 8, 32, 4, letters=4), adam(1e-2),
            prepare=remembering, steps=500,
        ),
        "gates sit at their end because they should",
    ),
    healthy(
        "rnn/64-single-pixels", Recipe(pixels, lambda: Reader(nn.GRU, 1, 20, 10), adam(1e-2), steps=320, size=24),
        "gradients of early time steps are small, and it learns slowly",
    ),
    healthy(
        "rnn/flat-start",
        Recipe(
            lambda: recall(10, 8), lambda: Reader(nn.RNN, 8, 32, 8, letters=8), adam(3e-3),
            prepare=faults.orthogonal(), steps=700,
        ),
        "the loss stands for long before memory is found",
    ),
    healthy(
        "rnn/relu-by-hand", Recipe(rows, lambda: Loop(8, 48, 10, torch.relu), sgd(0.02), prepare=faults.orthogonal()),
        "shared weights collect the gradients of all steps",
    ),
)  # fmt: skip
