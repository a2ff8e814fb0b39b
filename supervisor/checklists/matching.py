"""Questions to the loss: whether it fits the output it is given."""

from __future__ import annotations

import math
from typing import Final

import torch

from supervisor.checklists.calls import LossCall
from supervisor.checklists.first_pass import FirstPass
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned

_UNSEEN: Final = "no loss function of torch was seen (compiled, or written by hand)"
_RANGES: Final = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf)}
_REGRESSION: Final = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_RAW: Final = "Give the loss the raw outputs (logits): it does its own squashing."


def output_matches_loss(now: FirstPass) -> Answer:
    """Ask whether the output is what the loss expects."""
    if not now.seen.losses:
        return inapplicable(_UNSEEN)
    for call in now.seen.losses:
        problem = _mismatch(call)
        if problem is not None:
            reason, advice = problem
            return warned(f"{call.function}: {reason}", advice, made_by=call.made_by, mismatch=now.anatomy.mismatch)
    return passed(shown(f"{name} fits its input" for name in dict.fromkeys(c.function for c in now.seen.losses)))


def _mismatch(call: LossCall) -> tuple[str, str] | None:
    """Return what does not fit and what to do, or None."""
    if not call.input.numel() or not bool(torch.isfinite(call.input).all()):
        return None
    judges = {
        "cross_entropy": _scores,
        "nll_loss": _log_probabilities,
        "kl_div": _log_probabilities,
        "binary_cross_entropy": _probabilities,
        "binary_cross_entropy_with_logits": _logits,
    }
    return judges.get(call.function, _regression)(call)


def _scores(call: LossCall) -> tuple[str, str] | None:
    x = call.input.float()
    units = x.shape[class_dim(call)]
    if units == 1:
        reason = "the output has one unit, so the loss is 0 for every input"
        return reason, "One output per class; for two classes and one unit take binary_cross_entropy_with_logits."
    if call.made_by == "softmax" or _sums_to_one(call):
        return "its input has been through a softmax already (the loss applies one)", _RAW
    if call.made_by in ("sigmoid", "tanh", "hardtanh", "hardsigmoid"):
        low, high = float(x.min()), float(x.max())
        return f"its input is squashed by a {call.made_by} ({low:.3g} to {high:.3g}): no class can stand out", _RAW
    cut = float((x == 0).float().mean())
    if call.made_by in ("relu", "clamp_min", "clamp", "threshold") and float(x.min()) >= 0 and cut > 0.01:
        return f"its input is cut off by a ReLU: {cut:.0%} of the outputs are 0, without gradient", _RAW
    return None


def _log_probabilities(call: LossCall) -> tuple[str, str] | None:
    x = call.input.float()
    units = x.shape[class_dim(call)]
    advice = "Apply log_softmax to the outputs first" + ("; or take cross_entropy." if "nll" in call.function else ".")
    if units == 1:
        return "the output has one unit, whose log-probability is always 0", "One output per class."
    if call.made_by == "softmax" or _sums_to_one(call):
        return "its input are probabilities, it expects their logarithms", advice
    total = x.exp().sum(class_dim(call))
    far = float((total - 1).abs().median())
    if call.function == "nll_loss" and far > 0.05:
        return f"its input are no log-probabilities: they add up to 1 +- {far:.3g}", advice
    if call.function == "kl_div" and float(x.max()) > 1e-3:
        return f"its input are no log-probabilities: the largest is {float(x.max()):.3g}", advice
    return None


def _probabilities(call: LossCall) -> tuple[str, str] | None:
    x = call.input.float()
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        reason = f"its input goes from {low:.3g} to {high:.3g}, it expects probabilities"
        return reason, "Take binary_cross_entropy_with_logits on the raw outputs."
    return _constant(call) or _shapes(call)


def _logits(call: LossCall) -> tuple[str, str] | None:
    if call.made_by in ("sigmoid", "softmax", "hardsigmoid"):
        return f"its input has been through a {call.made_by} already (the loss applies a sigmoid)", _RAW
    if call.made_by in ("relu", "clamp_min"):
        return "its input is cut off by a ReLU: no probability below a half", _RAW
    return _shapes(call)


def _regression(call: LossCall) -> tuple[str, str] | None:
    target = call.target.float()
    problem = _constant(call) or _shapes(call) or _labels(call)
    if problem is not None or call.made_by not in _RANGES or not target.numel():
        return problem
    low, high = _RANGES[call.made_by]
    outside = float(((target < low - 1e-4) | (target > high + 1e-4)).float().mean())
    if outside > 0.01:
        reason = f"the output is a {call.made_by} ({low:g} to {high:g}), {outside:.0%} of the targets lie outside"
        return reason, "Leave the last layer linear, or scale the targets to its range."
    return None


def _constant(call: LossCall) -> tuple[str, str] | None:
    """Say so where a softmax runs over a single unit."""
    if call.made_by == "softmax" and bool((call.input == 1).all()):
        return "a softmax over one unit is always 1", "Take a sigmoid, or two units."
    return None


def _shapes(call: LossCall) -> tuple[str, str] | None:
    """Say so where shapes that differ are broadcast: every output is then compared with every target."""
    if call.input.shape == call.target.shape or call.target.numel() in (0, 1) or call.input.numel() == 1:
        return None
    reason = f"output {tuple(call.input.shape)} and target {tuple(call.target.shape)} differ in shape and are broadcast"
    return reason, "Give both the same shape: output.squeeze(-1), or target.unsqueeze(-1)."


def _labels(call: LossCall) -> tuple[str, str] | None:
    """Say so where numbers that are names of classes are regressed on."""
    target = call.target.float()
    rows = target.shape[0] if target.ndim else 0
    whole = bool((target == target.round()).all())
    values = torch.unique(target) if whole else target.new_zeros(0)
    advice = "Take cross_entropy with one output per class (two classes: binary_cross_entropy_with_logits)."
    if target.ndim == 2 and target.shape[1] > 2 and len(values) == 2 and bool((target.sum(1) == 1).all()):
        return f"the targets are one-hot over {target.shape[1]} classes", advice
    names = torch.arange(len(values), device=values.device)
    if rows == target.numel() and 1 < len(values) <= max(2, min(100, rows // 3)) and bool((values == names).all()):
        return f"the targets are the labels 0 to {len(values) - 1}, not quantities", advice
    return None


def class_dim(call: LossCall) -> int:
    """Return the dimension of a loss's input in which its classes lie."""
    if call.function == "kl_div":
        return call.input.ndim - 1
    return 1 if call.input.ndim > 1 else 0


def _sums_to_one(call: LossCall) -> bool:
    x, d = call.input.float(), class_dim(call)
    return bool((x >= 0).all()) and bool(((x.sum(d) - 1).abs() < 1e-3).all())
