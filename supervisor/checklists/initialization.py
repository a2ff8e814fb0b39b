"""Questions to the initial values: the reference's initialization checklist, by layer kind and activation."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn

from supervisor.activations import SILENT_AT_ZERO
from supervisor.checklists.first_pass import FirstPass
from supervisor.checklists.matrices import Matrix, alike, matrices
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned
from supervisor.remedies._fresh import NORMS

TOLERANCE: Final = (0.2, 3.0)  # of a weight's size, to the nearest of He and Glorot
NORMALIZED: Final = (0.05, 6.0)  # likewise where a normalization takes the scale out
CHAIN: Final = 3.0  # decades that all layers together may shrink or swell the signal, where nothing normalizes
CENTRED: Final = 0.5  # mean over standard deviation
BIAS: Final = 1.0
NEGATIVE: Final = 2.0  # a bias below this many norms of its unit's weights
NEGATIVE_SHARE: Final = 0.1  # of a layer's units

_INIT: Final = "supervisor.initialize_(model) does it by layer kind and activation, before the optimizer is built."


def weight_scale(now: FirstPass) -> Answer:
    """Ask whether the weights are of the size that He or Glorot initialization gives for their fans."""
    found = [m for m in matrices(now) if m.size > 0]
    if not found:
        return inapplicable("no linear or convolutional weights")
    low, high = NORMALIZED if now.normalized else TOLERANCE
    ratios = {m.layer: (ratio, m) for m in found if not low <= (ratio := _ratio(m)) <= high}
    wrong = {name: pair for name, pair in ratios.items() if not (pair[1].head and pair[0] < 1)}
    if wrong:
        what = shown(f"{name}: {m.size:.3g}, {r:.2g} times the advised" for name, (r, m) in wrong.items())
        reason = f"root mean square of the weights out of scale ({what}; tolerated {low:g} to {high:g})"
        return warned(reason, f"Initialize with He (ReLU) or Xavier (tanh, sigmoid): {_INIT}", wrong)
    return passed(f"{len(found)} weights are within {low:g} to {high:g} times of He or Xavier", limits=(low, high))


def _ratio(matrix: Matrix) -> float:
    """Return the size of the weights over the nearest of the advised ones; 1 between them."""
    low, high = matrix.bounds
    return matrix.size / low if matrix.size < low else max(1.0, matrix.size / high)


def weight_chain(now: FirstPass) -> Answer:
    """Ask whether the initial weights, all layers together, keep the signal's size."""
    chain = [m for m in matrices(now) if m.size > 0 and not m.head]
    if len(chain) < 2:
        return inapplicable("no chain of layers")
    if now.normalized or (now.depth is not None and now.depth.skips):
        return inapplicable("normalization or skip connections keep the signal's size")
    depth = min(len(chain), now.depth.longest if now.depth is not None else len(chain))
    decades = depth * sum(math.log10(m.size / m.neutral) for m in chain) / len(chain)
    figure = f"{depth} layers scale the signal {10**decades:.1e} times, tolerated: 1e{-CHAIN:g} to 1e{CHAIN:g}"
    if abs(decades) <= CHAIN:
        return passed(figure, decades=decades)
    default = sum(m.pytorch for m in chain) > len(chain) / 2
    known = "; this is PyTorch's default initialization, fine in shallow networks" if default else ""
    return warned(
        figure + known, f"He initialization or normalization: {_INIT}", [m.layer for m in chain], decades=decades
    )


def weight_mean(now: FirstPass) -> Answer:
    """Ask whether the weights are spread around zero."""
    found = [m for m in matrices(now) if m.values.numel() > 1 and m.size > 0]
    if not found:
        return inapplicable("no linear or convolutional weights")
    wrong = {m.layer: m for m in found if _off_centre(m)}
    if wrong:
        what = shown(f"{name}: mean {m.mean:.3g}, std {m.std:.3g}" for name, m in wrong.items())
        return warned(f"weights are not spread around zero ({what})", f"Initialize around zero: {_INIT}", wrong)
    told = shown(f"{m.layer}: mean {m.mean:.1e}, std {m.std:.3g}" for m in found)
    return passed(told, by_layer={m.layer: {"mean": m.mean, "std": m.std} for m in found})


def _off_centre(matrix: Matrix) -> bool:
    noise = 5 / math.sqrt(matrix.values.numel())  # five standard errors: a tiny layer is off by chance
    return abs(matrix.mean) > max(CENTRED, noise) * matrix.std


def units_differ(now: FirstPass) -> Answer:
    """Ask whether the units of a layer start differently."""
    found = [m for m in matrices(now) if m.values.shape[0] > 1]
    if not found:
        return inapplicable("no layer with several units")
    same = [m for m in found if alike(m.values)]
    stuck = [m.layer for m in same if not _told_apart(m)]
    if stuck:
        reason = f"all units of {shown(stuck)} start with the same weights"
        return warned(reason, f"Constant weights never differ; draw them at random: {_INIT}", stuck, layers=len(stuck))
    waiting = [m.layer for m in same]
    return passed(f"{shown(waiting)} starts at a constant, its gradient tells the units apart" if waiting
                  else f"the units of {len(found)} layers differ")  # fmt: skip


def _told_apart(matrix: Matrix) -> bool:
    """Return whether the first gradient tells equal units apart: of an output layer, or a branch begun at zero."""
    constant = bool(matrix.values.any()) and not matrix.head
    return not constant and matrix.gradient is not None and not alike(matrix.gradient)


def biases(now: FirstPass) -> Answer:
    """Ask whether biases start at zero, or small."""
    found = dict(_biases(now))
    if not found:
        return inapplicable("no biases")
    heads = {m.layer for m in matrices(now) if m.head}  # an output's bias may hold the base rates
    sizes = {name: float(b.detach().abs().max()) for name, b in found.items()}
    wrong = {name: size for name, size in sizes.items() if size > BIAS and name not in heads}
    if wrong:
        what = shown(f"{name}: {size:.3g}" for name, size in wrong.items())
        return warned(f"largest bias above {BIAS:g} ({what})", f"Start biases at zero: {_INIT}", wrong, by_layer=wrong)
    return passed(f"the largest of {len(found)} biases is {max(sizes.values()):.2g}, limit {BIAS:g}")


def _biases(now: FirstPass) -> list[tuple[str, nn.Parameter]]:
    modules = [(path or "model", m) for path, m in now.model.named_modules() if not isinstance(m, NORMS)]
    own = [(path, p) for path, m in modules for name, p in m.named_parameters(recurse=False) if name == "bias"]
    return [(path, p) for path, p in own if p.requires_grad and p.numel()]


def negative_biases(now: FirstPass) -> Answer:
    """Ask for biases so negative that a rectifier never opens."""
    limits: dict[str, float] = {}
    rectified = {m.layer: m for m in matrices(now) if m.function in SILENT_AT_ZERO}
    for layer, bias in _biases(now):
        if layer in rectified and bias.numel() == rectified[layer].values.shape[0]:
            reach = torch.linalg.vector_norm(rectified[layer].values.flatten(1).float(), dim=1)
            limits[layer] = float((bias.detach().float() < -NEGATIVE * reach.clamp_min(1e-12)).float().mean())
    if not limits:
        return inapplicable("no biases before a ReLU")
    wrong = {layer: share for layer, share in limits.items() if share > NEGATIVE_SHARE}
    if wrong and not now.normalized:
        what = shown(f"{layer}: {share:.0%} of the units" for layer, share in wrong.items())
        reason = f"biases below -{NEGATIVE:g} times the norm of their weights ({what}): such a ReLU hardly ever opens"
        return warned(reason, f"Start biases at zero: {_INIT}", wrong, by_layer=wrong)
    return passed(f"none of {len(limits)} layers before a ReLU is held shut by its bias")


def norm_parameters(now: FirstPass) -> Answer:
    """Ask whether normalizations start with weight 1 and bias 0."""
    found = [(path, m) for path, m in now.model.named_modules() if isinstance(m, NORMS)]
    found = [(path, m) for path, m in found if isinstance(m.weight, torch.Tensor)]
    if not found:
        return inapplicable("no normalization with parameters")
    gates = [path for path, m in found if not bool(m.weight.any())]
    wrong = []
    for path, m in found:
        weight, bias = float((m.weight.detach() - 1).abs().max()), getattr(m, "bias", None)
        shift = float(bias.detach().abs().max()) if isinstance(bias, torch.Tensor) else 0.0
        if (weight > 0.5 and path not in gates) or shift > 0.5:
            wrong.append(f"{path}: weight off by {weight:.3g}, bias by {shift:.3g}")
    if wrong:
        return warned(
            f"{len(wrong)} normalizations do not start neutral ({shown(wrong)})", f"Weight 1, bias 0: {_INIT}"
        )
    if gates and not (now.depth is not None and now.depth.skips):
        reason = f"the weights of {shown(gates)} are 0, so nothing passes"
        return warned(reason, f"Weight 1 (0 only at the end of a residual branch): {_INIT}", gates)
    return passed(f"{len(found)} normalizations start neutral" + (f", {len(gates)} as closed gates" if gates else ""))


def recurrent_weights(now: FirstPass) -> Answer:
    """Ask whether recurrent matrices hand the state on at its size."""
    gains: dict[str, float] = {}
    for path, module in now.model.named_modules():
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            for name, p in module.named_parameters(recurse=False):
                if name.startswith("weight_hh"):
                    blocks = p.detach().float().split(module.hidden_size)
                    gains[f"{path or 'model'}.{name}"] = max(float(b.square().sum() / len(b)) ** 0.5 for b in blocks)
    if not gains:
        return inapplicable("no recurrent layers")
    wrong = {name: gain for name, gain in gains.items() if not 0.25 <= gain <= 1.5}
    figures = shown(f"{name}: {gain:.3g}" for name, gain in (wrong or gains).items())
    if wrong:
        reason = f"a step of time scales the state by {figures}; tolerated 0.25 to 1.5, orthogonal: 1"
        return warned(reason, f"Initialize recurrent matrices orthogonally: {_INIT}", wrong, by_layer=wrong)
    known = " (PyTorch's default, 0.58: orthogonal matrices remember longer)" if min(gains.values()) < 0.7 else ""
    return passed(f"a step of time scales the state by {figures}; orthogonal: 1{known}", by_layer=gains)
