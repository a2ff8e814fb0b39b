"""The L2 norms of many tensors in one fused call."""

from __future__ import annotations

import torch

from supervisor.signals.figures import gathered


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Return a complex tensor as pairs of real numbers, any other as it is."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def each_norm(tensors: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the norm of each tensor, 0-dim and where it is. Half types are summed in float32."""
    if not tensors:
        return ()
    if all(tensor.dtype == torch.float32 for tensor in tensors):
        return tuple(torch._foreach_norm(tensors))  # noqa: SLF001 - the fused form has no public name
    parts = [real(tensor) for tensor in tensors]
    dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    return tuple(torch._foreach_norm(parts, 2, dtype))  # noqa: SLF001


def norms(tensors: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Return the norm of each tensor: (tensors,), float32, on `device`."""
    return gathered(each_norm(tensors), (), device) if tensors else torch.zeros(0, device=device)
