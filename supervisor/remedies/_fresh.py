"""Fresh initial values by layer kind and by the activation that follows.

He normal, fan-in, before rectifiers (He et al., 2015); Glorot uniform before squashing functions and where no
activation follows (Glorot & Bengio, 2010); LeCun normal before SELU (Klambauer et al., 2017); orthogonal recurrent
matrices (Saxe et al., 2014); a forget gate that starts open (Jozefowicz et al., 2015).
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import ParametrizationList

from supervisor.activations import SQUASHING
from supervisor.records import Anatomy

_SLOPES: Final = {"leaky_relu": 0.01, "prelu": 0.25}  # over the negative half line, as they start
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_UNTOUCHED = (nn.Embedding, nn.EmbeddingBag, ParametrizationList)


def following(anatomy: Anatomy, layer: str) -> str | None:
    """Return the activation applied to the output of `layer`, or None. A gate counts only where nothing else is.

    Attention's softmax is none: it mixes values and changes no unit's variance.
    """
    sites = [site for site in anatomy.sites if site.producer == layer and site.function != "softmax"]
    return next((site.function for site in sorted(sites, key=lambda site: site.gate)), None)


def fresh(module: nn.Module, name: str, parameter: Tensor, function: str | None) -> Tensor | None:
    """Return new values for the parameter `name` of `module`, or None where it is to stay as it is.

    `function` is the activation that follows. Drawn from torch's global random numbers, in float32 for half types.
    """
    if isinstance(module, _UNTOUCHED):
        return None
    if isinstance(module, NORMS):
        return {"weight": torch.ones_like(parameter), "bias": torch.zeros_like(parameter)}.get(name)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return _recurrent(module, name, parameter)
    if isinstance(module, (nn.Linear, _ConvNd)):
        if name == "weight":
            return weight(parameter, function, transposed=isinstance(module, _ConvTransposeNd))
        return torch.zeros_like(parameter) if name == "bias" else None  # weight_g, weight_orig: not ours to guess
    return weight(parameter, function) if parameter.ndim == 2 else None


@torch.no_grad()
def weight(like: Tensor, function: str | None, *, transposed: bool = False) -> Tensor:
    """Return fresh values for the weight `like` (out, in, ...); `transposed` where it is (in, out, ...)."""
    value = _empty(like)
    if function is None or function in SQUASHING:
        nn.init.xavier_uniform_(value)
    else:
        slope = 1.0 if function == "selu" else _SLOPES.get(function, 0.0)
        mode: Literal["fan_in", "fan_out"] = "fan_out" if transposed else "fan_in"
        nn.init.kaiming_normal_(value, a=slope, mode=mode, nonlinearity="leaky_relu")
    return value.to(like.dtype)


@torch.no_grad()
def orthogonal(like: Tensor) -> Tensor:
    """Return fresh values for a recurrent matrix (k * units, units): k orthogonal blocks, one below another."""
    value = _empty(like)
    for block in value.split(like.shape[1]):
        nn.init.orthogonal_(block)
    return value.to(like.dtype)


@torch.no_grad()
def _recurrent(module: nn.RNNBase | nn.RNNCellBase, name: str, parameter: Tensor) -> Tensor:
    """Return fresh values gate by gate: the gates' blocks of `hidden_size` rows lie below one another."""
    value = torch.zeros_like(_empty(parameter))
    blocks = value.split(module.hidden_size)
    if name.startswith("weight"):
        for block in blocks:
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(block)
            else:
                nn.init.xavier_uniform_(block)
    elif name.startswith("bias_ih") and isinstance(module, (nn.LSTM, nn.LSTMCell)):
        blocks[1].fill_(1.0)  # torch adds bias_ih and bias_hh: one of them opens the forget gate
    return value.to(parameter.dtype)


def _empty(like: Tensor) -> Tensor:
    """Return room for drawing: torch's initializers need a full float type (QR has no half kernel)."""
    dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
    return torch.empty(like.shape, dtype=dtype, device=like.device)
