"""Which layers a model has: every module that holds trained parameters of its own."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from supervisor.records import Layer, LayerKind

_KINDS: tuple[tuple[tuple[type[nn.Module], ...], LayerKind], ...] = (
    ((nn.Linear, nn.Bilinear, nn.MultiheadAttention), "linear"),
    ((_ConvNd,), "conv"),
    ((nn.RNNBase, nn.RNNCellBase), "recurrent"),
    ((_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), "norm"),
    ((nn.Embedding, nn.EmbeddingBag), "embedding"),
)


@dataclass(frozen=True)
class LayerParameters:
    """A layer and the trained parameters it owns; a tied parameter belongs to its first owner."""

    layer: Layer
    parameters: tuple[nn.Parameter, ...]


def _kind(module: nn.Module, own: list[nn.Parameter]) -> LayerKind:
    for classes, kind in _KINDS:
        if isinstance(module, classes):
            return kind
    return "linear" if any(p.ndim == 2 for p in own) else "other"


def layers_of(model: nn.Module, trained: list[nn.Parameter]) -> list[LayerParameters]:
    """Return the layers of `model` in the order of registration."""
    wanted = {id(p) for p in trained}
    layers = []
    for path, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) in wanted]
        wanted -= {id(p) for p in own}
        if own:
            size = sum(p.numel() for p in own)
            layers.append(LayerParameters(Layer(path or "model", _kind(module, own), size), tuple(own)))
    return layers
