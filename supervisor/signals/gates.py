"""What the fused kernels of torch hide: the gates of LSTM and GRU, and the weights of attention.

Neither can be seen from outside, so on sampled ticks they are computed once more for a few sequences (a few queries):
enough to tell gates that are pinned open or shut, and attention that looks at one place only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

SEQUENCES: Final = 4
QUERIES: Final = 16

_CELLS: Final = ("lstm_cell", "gru_cell")
_TANH: Final = ("rnn_tanh", "rnn_tanh_cell")

Call = tuple[Any, ...]


@lru_cache(maxsize=512)
def squashes_within(func: Callable[..., Any]) -> bool:
    """Return whether `func` is a kernel that keeps what it squashes to itself."""
    fused = (F.scaled_dot_product_attention, F.multi_head_attention_forward)
    return func in fused or getattr(func, "__name__", "") in (*_CELLS, *_TANH)


def squashed_within(func: Any, args: Call, kwargs: dict[str, Any], out: Tensor) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401
    """Yield (function, output) of what a fused kernel squashes: a cell's gates, a recurrent tanh, attention weights."""
    name = getattr(func, "__name__", "")
    with torch.no_grad():
        if name in _CELLS:
            state = args[1][0] if isinstance(args[1], (tuple, list)) else args[1]
            yield from _gates(name, args[0], state, (*args[2:4], *(args[4:6] if len(args) > 5 else (None, None))))
        elif name in _TANH:
            yield "tanh", out.detach()
        elif (weights := _attention(func, args, kwargs)) is not None:
            yield "softmax", weights


def _gates(name: str, inputs: Tensor, state: Tensor, weights: Call) -> Iterator[tuple[str, Tensor]]:
    """Yield the sigmoid gates, and the tanh of an LSTM's candidate: (..., gates * hidden) each."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    raw = F.linear(inputs, weight_ih, bias_ih) + F.linear(state, weight_hh, bias_hh)
    if "lstm" in name:
        forget_in, candidate, out = raw.split([raw.shape[-1] // 2, raw.shape[-1] // 4, raw.shape[-1] // 4], -1)
        yield "sigmoid", torch.cat([forget_in, out], -1).sigmoid()
        yield "tanh", candidate.tanh()
    else:
        yield "sigmoid", raw[..., : 2 * raw.shape[-1] // 3].sigmoid()


def layer_gates(module: nn.RNNBase, inputs: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield (function, output) of the gates of an LSTM's or GRU's first layer, forward in time, on a few sequences.

    An nn.RNN has no gates; what it squashes is its output.
    """
    if inputs.ndim != 3 or not isinstance(module, (nn.LSTM, nn.GRU)) or module.proj_size:
        return
    few = inputs.detach()[:SEQUENCES].transpose(0, 1) if module.batch_first else inputs.detach()[:, :SEQUENCES]
    weights = [getattr(module, name) for name in ("weight_ih_l0", "weight_hh_l0")]
    biases = [getattr(module, name) for name in ("bias_ih_l0", "bias_hh_l0")] if module.bias else []
    zeros = few.new_zeros(1, few.shape[1], module.hidden_size)
    flat = [*weights, *biases]
    with torch.no_grad():
        if isinstance(module, nn.LSTM):
            states = torch.lstm(few, (zeros, zeros), flat, module.bias, 1, 0.0, False, False, False)[0]  # noqa: FBT003
            name = "lstm"
        else:
            states = torch.gru(few, zeros, flat, module.bias, 1, 0.0, False, False, False)[0]  # noqa: FBT003
            name = "gru"
        before = torch.cat([zeros, states[:-1]])
        yield from _gates(name, few, before, (*weights, *(biases or (None, None))))


def _attention(func: Any, args: Call, kwargs: dict[str, Any]) -> Tensor | None:  # noqa: ANN401 - any callable
    """Return the attention weights of a few queries, (..., queries, keys), for the fused forms of attention."""
    if func is F.scaled_dot_product_attention:
        query, key = args[0].detach(), args[1].detach()
        mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
        causal = bool(kwargs.get("is_causal", args[5] if len(args) > 5 else False))
        return _weights(query[:1], key[:1], mask, kwargs.get("scale"), causal=causal)
    return _multi_head(args, kwargs) if func is F.multi_head_attention_forward else None


def _multi_head(args: Call, kwargs: dict[str, Any]) -> Tensor | None:
    query, key, _, width, heads, weight, bias = args[:7]
    if weight is None or query.ndim != 3:
        return None  # keys and values of another width than the queries
    first, second = (t.detach()[:, :1].transpose(0, 1) for t in (query, key))  # (1, length, width)
    biases = bias[: 2 * width].chunk(2) if bias is not None else (None, None)
    projections = zip((first, second), weight[: 2 * width].chunk(2), biases, strict=True)
    q, k = (F.linear(x, w, b).unflatten(-1, (heads, -1)).transpose(1, 2) for x, w, b in projections)
    mask = kwargs.get("attn_mask")
    if mask is not None:
        mask = mask[:1, None] if mask.ndim == 3 else mask
        mask = ~mask if mask.dtype == torch.bool else mask  # here True means hidden
    return _weights(q, k, mask, None, causal=False)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None, *, causal: bool) -> Tensor | None:
    """Return softmax(q k^T) for evenly spaced queries of the later half: those that see many keys under any mask."""
    length, keys = query.shape[-2], key.shape[-2]
    if query.shape[-3] != key.shape[-3] or keys < 2:
        return None  # grouped queries
    places = torch.linspace(length // 2, length - 1, min(QUERIES, length - length // 2), device=query.device).long()
    scores = query[..., places, :] @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
    if causal:
        later = torch.arange(keys, device=query.device) > places[:, None]
        scores = scores.masked_fill(later, -torch.inf)
    if mask is not None and mask.shape[-2:] == (length, keys):
        part = (mask[:1] if mask.ndim > 2 else mask)[..., places, :]
        scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part
    return scores.float().softmax(-1)
