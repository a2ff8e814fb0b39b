"""Norms of whatever types a model may have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.signals.watching import Watching, mlp, norm, vectors


def test_sparse_gradients_are_measured() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(50, 6, sparse=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x))  # type: ignore[no-any-return]

    watched = Watching(Sparse())
    for _ in range(3):
        now = watched.tick(torch.randint(0, 5, (8, 4)))
    gradient = watched.model.get_parameter("table.weight").grad
    assert gradient is not None
    assert gradient.is_sparse
    assert now.grad_norms[0] == pytest.approx(norm([gradient.to_dense()]), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types_are_measured(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = mlp().to(dtype)
    watched = Watching(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.5))
    for _ in range(3):
        now = watched.tick(vectors().to(dtype))
    assert now.finite
    assert now.grad_norm == pytest.approx(norm([p.grad for p in model.parameters() if p.grad is not None]), rel=1e-4)
    assert now.sample is not None
    assert (now.sample.update_norms > 0).all()


def test_mixed_and_complex_types_are_measured() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.waves = nn.Parameter(torch.randn(6, 6, dtype=torch.cfloat))
            self.wide, self.head = nn.Linear(6, 6).double(), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            waves = (x.to(torch.cfloat) @ self.waves).abs()
            return self.head(self.wide(waves.double()).float())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    watched = Watching(Mixed())
    for _ in range(2):
        now = watched.tick(vectors())
    gradients = [
        torch.view_as_real(g) if g.is_complex() else g for p in watched.model.parameters() if (g := p.grad) is not None
    ]
    assert now.grad_norm == pytest.approx(norm(gradients), rel=1e-5)
    assert now.sample is not None
    assert (now.sample.update_norms > 0).all()


def test_a_layer_without_elements_is_no_upset() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(6, 0), nn.Linear(0, 3))
    watched = Watching(model)
    for _ in range(2):
        now = watched.tick(vectors())
    assert now.finite
