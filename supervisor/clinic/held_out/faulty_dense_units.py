"""Faulty trainings of dense networks: units, loss and progress."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out._build import (
    DEAD,
    EXPLODING,
    PLATEAU,
    SATURATION,
    UNSTABLE,
    VANISHING,
    Recipe,
    adagrad,
    adam,
    adamw,
    sgd,
    sick,
)
from supervisor.clinic.held_out._dense import Functional, Gated, Maxout, stack
from supervisor.clinic.held_out._dense_recipes import (
    DIGITS,
    WAVES,
    digits_adam,
    digits_sgd,
    waves_l1,
    wine,
)
from supervisor.clinic.held_out._faults import fill, once
from supervisor.diagnoses import causes as by


def _wild(model: nn.Module) -> None:
    """Begin with weights of 6 in the hidden layers."""
    for layer in [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]:
        nn.init.normal_(layer.weight, std=6.0)


def _sunk(model: nn.Module, _optimizer: Optimizer) -> None:
    """Push the biases of the hidden layers to -20, as a wrong copy of a vector does."""
    hidden = [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]
    for layer in hidden:
        layer.bias.data.fill_(-20.0)


class _Detached(nn.Module):
    """A head over an encoder whose output is detached: only the head is trained, and sees three random features."""

    def __init__(self, *, detach: bool) -> None:
        super().__init__()
        self.encoder, self.head, self.detach = stack([64, 48, 3], nn.ELU), stack([3, 48, 10], nn.ELU), detach

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        result: Tensor = self.head(code.detach() if self.detach else code)
        return result


def _constant(model: nn.Module) -> None:
    for p in model.parameters():
        nn.init.constant_(p, 0.05 if p.ndim > 1 else 0.0)


def _zeros(model: nn.Module) -> None:
    for p in model.parameters():
        nn.init.zeros_(p)


CASES: tuple[Case, ...] = (
    sick(
        "mlp/functional-relu-biases-minus-6-l1",
        "mlp",
        waves_l1,
        (DEAD, PLATEAU),
        {by.NEGATIVE_BIAS, by.INITIALIZATION},
        init=fill(-6.0, but="layers.2"),
    ),
    sick(
        "mlp/relu6-biases-to-minus-20-at-300",
        "mlp",
        digits_sgd,
        (DEAD,),
        {by.NEGATIVE_BIAS},
        onset=300,
        model=lambda: stack(DIGITS, nn.ReLU6),
        strike=once(300, _sunk),
    ),
    sick(
        "mlp/functional-relu-adamw-rate-0.5",
        "mlp",
        digits_adam,
        (DEAD, UNSTABLE, EXPLODING),
        {by.LARGE_LR},
        optimizer=adamw(0.5),
    ),
    sick(
        "mlp/tanh-raw-wine-sgd",
        "mlp",
        wine,
        (SATURATION, VANISHING, PLATEAU),
        {by.INPUT_SCALE, by.ACTIVATION},
        model=lambda: stack([13, 32, 32, 3], nn.Tanh),
    ),
    sick(
        "mlp/sigmoid-4-normal-6-momentum",
        "mlp",
        digits_sgd,
        (SATURATION, VANISHING),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.ACTIVATION},
        model=lambda: Functional([64, 48, 48, 48, 10], torch.sigmoid),
        init=_wild,
        optimizer=sgd(0.01),
    ),
    sick(
        "mlp/maxout-adam-rate-0.7-l1",
        "mlp",
        waves_l1,
        (UNSTABLE, EXPLODING),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        model=lambda: Maxout(WAVES),
        optimizer=adam(0.7),
    ),
    sick(
        "mlp/huber-adagrad-rate-3",
        "mlp",
        waves_l1,
        (UNSTABLE, EXPLODING, DEAD),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        model=lambda: stack(WAVES, nn.PReLU),
        loss=F.huber_loss,
        optimizer=adagrad(3.0),
    ),
    sick(
        "mlp/swiglu-nll-adamw-rate-1e-7",
        "mlp",
        digits_adam,
        (PLATEAU,),
        {by.SMALL_LR},
        model=lambda: Gated(64, 48, 2, 10, F.silu),
        loss=lambda out, y: F.nll_loss(F.log_softmax(out, -1), y),
        optimizer=adamw(1e-7),
    ),
    sick(
        "mlp/elu-all-weights-0.05",
        "mlp",
        digits_sgd,
        (PLATEAU,),
        {by.SYMMETRY, by.INITIALIZATION},
        model=lambda: stack(DIGITS, nn.ELU),
        init=_constant,
    ),
    sick(
        "mlp/relu-all-zero",
        "mlp",
        digits_adam,
        (PLATEAU, DEAD, VANISHING),
        {by.SYMMETRY, by.NO_GRADIENT, by.INITIALIZATION},
        init=_zeros,
    ),
    sick(
        "mlp/detached-encoder",
        "mlp",
        Recipe(tasks.digits, lambda: _Detached(detach=False), adam(2e-3), steps=800),
        (PLATEAU, VANISHING),
        {by.NO_GRADIENT},
        model=lambda: _Detached(detach=True),
    ),
    sick(
        # Milestones meant as epochs, counted in steps.
        "mlp/milestones-in-steps",
        "mlp",
        digits_sgd,
        (PLATEAU,),
        {by.DECAYED_LR, by.SMALL_LR},
        onset=20,
        optimizer=sgd(0.02, 0.0),
        rate=lambda step: 0.01 ** sum(step >= at for at in (10, 20, 30)),
    ),
)
