"""Questions to the first loss: whether it is finite, and starts where guessing is."""

from __future__ import annotations

import math
from typing import Final

import torch

from supervisor.checklists.calls import LossCall
from supervisor.checklists.first_pass import FirstPass
from supervisor.checklists.matching import class_dim
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned

HIGH: Final = (1.5, 2.0)  # times chance plus nats: an output that is confidently wrong before it learned anything
LOW: Final = 0.25  # of chance
POWER: Final = 10.0  # squared error over the mean square of the targets


def loss_finite(now: FirstPass) -> Answer:
    """Ask whether the first loss is finite."""
    if now.snapshot is None:
        return inapplicable("the first pass did not go through")
    loss = now.snapshot.loss
    if math.isfinite(loss):
        return passed(f"the first loss is {loss:.4g}", loss=loss)
    origin = f"; the first that is not finite: {now.snapshot.origin}" if now.snapshot.origin else ""
    return warned(f"the first loss is {loss}{origin}", "Check inputs, targets and logarithms or divisions by 0.")


def initial_loss(now: FirstPass) -> Answer:
    """Ask whether the loss starts where guessing is."""
    judged = [(c, *expected) for c in now.seen.losses if (expected := _chance(c)) is not None]
    if not judged:
        return inapplicable("what guessing would cost is known for cross entropy and squared error only")
    told = []
    for call, chance, low, high, name in judged:
        loss = call.mean()
        if not math.isfinite(loss):
            return inapplicable("the first loss is not finite")
        figure = f"{call.function} starts at {loss:.4g}, guessing costs {chance:.4g} ({name})"
        if not loss <= high:
            advice = "The output is confidently wrong: initialize the last layer smaller, standardize the inputs."
            return warned(f"{figure}, limit {high:.3g}", advice, loss=loss, chance=chance, limit=high)
        if loss < low:
            advice = "Fine if the model is trained already; else see whether the inputs hold the targets."
            return warned(f"{figure}: known beforehand", advice, loss=loss, chance=chance, limit=low)
        told.append(figure)
    return passed(shown(dict.fromkeys(told)))


def _chance(call: LossCall) -> tuple[float, float, float, str] | None:
    """Return what guessing costs, the lowest and highest start that are usual, and what guessing is."""
    plain_call = call.arguments.get("weight") is None and call.arguments.get("pos_weight") is None
    if call.function in ("cross_entropy", "nll_loss") and not call.target.is_floating_point() and plain_call:
        classes = call.input.shape[class_dim(call)]
        kept = call.target[call.target != call.arguments.get("ignore_index", -100)]
        chance = math.log(classes)
        least = LOW * min(chance, _entropy(torch.unique(kept, return_counts=True)[1].float()))
        return (chance, least, HIGH[0] * chance + HIGH[1], f"ln {classes}") if classes > 1 else None
    if call.function.startswith("binary_cross_entropy") and plain_call:
        rate = float(call.target.float().mean())
        least = LOW * _entropy(torch.tensor([rate, 1 - rate]))
        return math.log(2), least, HIGH[0] * math.log(2) + HIGH[1], "ln 2"
    if call.function == "mse_loss" and call.target.numel():
        power = float(call.target.float().square().mean())
        return (power, 0.0, POWER * power, "mean square of the targets") if power > 0 else None
    return None


def _entropy(counts: torch.Tensor) -> float:
    """Return the entropy of labels that occur `counts` times: what knowing their rates alone would cost."""
    shares = counts / counts.sum().clamp_min(1e-12)
    return float(-torch.special.xlogy(shares, shares).sum())
