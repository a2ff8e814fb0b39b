"""Questions to the data: what the model and the loss are really given in the first batch."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from supervisor.checklists.calls import LossCall
from supervisor.checklists.first_pass import FirstPass
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned
from supervisor.signals.tags import tensors_in

LARGE: Final = 10.0  # root mean square: initial weights are made for inputs around 1
SMALL: Final = 1e-3  # likewise
UNEVEN: Final = 1e3  # largest over median standard deviation of the columns of a table
OFF_CENTRE: Final = 10.0  # mean over standard deviation
CLASSES: Final = ("cross_entropy", "nll_loss")
PROBABILITIES: Final = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


def inputs_of(now: FirstPass) -> dict[str, Tensor]:
    """Return the floating-point inputs: what the model was given, or the batch's where that is not known."""
    given = now.inputs or {f"batch {i}": t for i, t in enumerate(tensors_in((values_of(now.batch),)))}
    floats = {name: t for name, t in given.items() if t.is_floating_point() and t.numel()}
    return {name: t for name, t in floats.items() if t.ndim > 1} or floats


def values_of(batch: object) -> object:
    """Return what a batch holds: the values of a dict, else itself."""
    return list(batch.values()) if isinstance(batch, dict) else batch


def inputs_finite(now: FirstPass) -> Answer:
    """Ask whether all inputs are finite."""
    given = inputs_of(now)
    if not given:
        return inapplicable("the model takes no floating-point inputs")
    bad = {name: int((~torch.isfinite(t)).sum()) for name, t in given.items()}
    hit = {name: count for name, count in bad.items() if count}
    if hit:
        what = shown(f"{name}: {count} of {given[name].numel()} values" for name, count in hit.items())
        return warned(
            f"NaN or Inf in the inputs ({what})", "Drop or fill the missing values in the data.", hit, counts=hit
        )
    return passed(f"all values of {len(given)} inputs are finite")


def inputs_scale(now: FirstPass) -> Answer:
    """Ask whether the inputs are of the size that initial weights are made for."""
    given = {name: t for name, t in inputs_of(now).items() if bool(torch.isfinite(t).all())}
    if not given:
        return inapplicable("no finite floating-point inputs")
    told = {name: _told(t) for name, t in given.items()}
    wrong = {name: why for name, t in given.items() if (why := _out_of_scale(t))}
    if not wrong:
        return passed(shown(f"{name}: {text}" for name, text in told.items()))
    if now.anatomy.layers and now.anatomy.layers[0].kind == "norm":
        return passed(f"{shown(told.values())}; the first layer normalizes")
    reason = shown(f"{name}: {told[name]}: {why}" for name, why in wrong.items())
    return warned(reason, "Standardize the inputs to mean 0 and standard deviation 1 (per feature).", wrong)


def _told(values: Tensor) -> str:
    v = values.float()
    return f"mean {float(v.mean()):.3g}, std {float(v.std(correction=0)):.3g}, largest {float(v.abs().max()):.3g}"


def _out_of_scale(values: Tensor) -> str:
    """Return what is wrong with the scale of an input, or an empty string."""
    v = values.float()
    size, std, mean = float(v.square().mean().sqrt()), float(v.std(correction=0)), float(v.mean())
    if set(torch.unique(v.flatten()[:10_000]).tolist()) <= {0.0, 1.0}:
        return ""  # a mask, or one-hot
    if size > LARGE:
        return f"root mean square {size:.3g}, limit {LARGE:g}"
    if size < SMALL:
        return f"root mean square {size:.3g}, below {SMALL:g}"
    if v.numel() > 1 and std <= 1e-6 * size:
        return "all values are equal"
    if abs(mean) > OFF_CENTRE * std:
        return f"far from centred, mean over std {abs(mean) / std:.3g}, limit {OFF_CENTRE:g}"
    columns = v.std(0, correction=0) if v.ndim == 2 and len(v) > 1 else v.new_zeros(0)
    columns = columns[columns > 0]
    uneven = float(columns.max() / columns.median()) if len(columns) > 1 else 1.0
    return f"features differ in scale by {uneven:.3g}, limit {UNEVEN:g}" if uneven > UNEVEN else ""


def targets_finite(now: FirstPass) -> Answer:
    """Ask whether all targets are finite."""
    floats = [call for call in now.seen.losses if call.target.is_floating_point()]
    if not floats:
        return inapplicable("no loss function of torch was seen with floating-point targets")
    bad = {c.function: int((~torch.isfinite(c.target)).sum()) for c in floats}
    hit = {name: count for name, count in bad.items() if count}
    if hit:
        what = shown(f"{count} in {name}" for name, count in hit.items())
        return warned(
            f"NaN or Inf in the targets ({what})", "Leave out or mask samples without a target.", hit, counts=hit
        )
    return passed("all targets are finite")


def targets_range(now: FirstPass) -> Answer:
    """Ask whether the targets lie where the loss expects them."""
    if not now.seen.losses:
        return inapplicable("no loss function of torch was seen")
    wrong = {call.function: why for call in now.seen.losses if (why := _out_of_range(call))}
    if wrong:
        reason = shown(f"{name}: {why}" for name, why in wrong.items())
        return warned(reason, "Check labels, padding (ignore_index) and the scale of the targets.", wrong)
    return passed(f"the targets of {shown(dict.fromkeys(c.function for c in now.seen.losses))} are in range")


def _out_of_range(call: LossCall) -> str:
    target = call.target
    if call.function in CLASSES and not target.is_floating_point() and target.numel():
        classes = call.input.shape[1 if call.input.ndim > 1 else 0]
        kept = target[target != call.arguments.get("ignore_index", -100)]
        if not kept.numel():
            return "every target is ignored"
        low, high = int(kept.min()), int(kept.max())
        return (
            f"labels from {low} to {high}, {classes} classes: 0 to {classes - 1}"
            if _outside(low, high, classes)
            else ""
        )
    values = target.float()[torch.isfinite(target.float())]
    if not values.numel():
        return ""
    if call.function in PROBABILITIES and _outside(float(values.min()), float(values.max()), 2):
        return f"targets from {float(values.min()):.3g} to {float(values.max()):.3g}, expected 0 to 1"
    size = float(values.square().mean().sqrt())
    if call.function.endswith(("mse_loss", "l1_loss", "huber_loss")) and size > LARGE:
        return f"root mean square of the targets {size:.3g}, limit {LARGE:g}: standardize them"
    return ""


def _outside(low: float, high: float, count: int) -> bool:
    return low < 0 or high > count - 1
