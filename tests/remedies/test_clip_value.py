"""Bounding every single gradient element."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.remedies.clip_norm import ClipNorm
from supervisor.remedies.clip_value import ClipValue
from supervisor.run import Clip, TrainingRun
from supervisor.settings import FOREVER
from tests.remedies.sick import decision, sick_run
from tests.remedies.test_clip_norm import grad_norm


def run_of(*gradients: Tensor) -> TrainingRun:
    model = nn.ParameterList([torch.zeros_like(gradient) for gradient in gradients])
    for parameter, gradient in zip(model, gradients, strict=True):
        parameter.grad = gradient.clone()
    return TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.1),))


def elements(run: TrainingRun) -> Tensor:
    return torch.cat([p.grad.flatten() for p in run.parameters if p.grad is not None])


def test_a_few_wild_elements_are_bounded_and_the_others_keep_every_bit() -> None:
    gradient = torch.linspace(-3.9, 3.9, 1000)
    gradient[3], gradient[9] = 1e6, -1e7
    run = run_of(gradient)
    effect = ClipValue(clip_value=4.0).apply(run, decision("exploding_gradients"))
    assert run.clip_gradients(grad_norm(run))
    wild = torch.tensor([3, 9])
    assert elements(run)[wild].tolist() == [4.0, -4.0]
    gradient[wild] = elements(run)[wild]
    assert torch.equal(elements(run), gradient)
    assert effect.changes["clip_value"] == (None, 4.0)


@pytest.mark.parametrize("count", [10, 1000, 100_000])
@pytest.mark.parametrize("seed", range(3))
def test_auto_leaves_usual_gradients_almost_whole_and_bounds_wild_ones(count: int, seed: int) -> None:
    """Of normal elements hardly one is touched; however wild, the norm stays within a few times the usual one."""
    usual = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    norm = float(usual.norm())
    run = run_of(usual)
    ClipValue().apply(run, decision("exploding_gradients", usual_max=norm))
    run.clip_gradients(1e9)
    assert float((elements(run) - usual).norm()) < 0.1 * norm
    run = run_of(usual * 1e4)
    ClipValue().apply(run, decision("exploding_gradients", usual_max=norm))
    run.clip_gradients(grad_norm(run))
    assert grad_norm(run) <= norm * math.sqrt(2 * math.log(count)) * 1.001


def test_auto_counts_only_elements_that_a_batch_touches() -> None:
    """An embedding's rows that no token names have no share in the norm, and lower no limit."""
    touched = torch.randn(50, generator=torch.Generator().manual_seed(0))
    sparse = run_of(torch.cat([touched, torch.zeros(100_000)]))
    dense = run_of(touched)
    for run in (sparse, dense):
        ClipValue().apply(run, decision(usual_max=7.0))
    assert sparse.clip == dense.clip


def test_auto_without_a_finding_that_knows_takes_what_the_run_knows() -> None:
    run = sick_run()
    with pytest.raises(RemedyRefused, match="set a number"):
        ClipValue().apply(run, decision(usual_max=None))
    run.usual_norm = 0.5
    ClipValue().apply(run, decision(usual_max=None))
    assert run.clip is not None
    assert 0 < run.clip.limit < 0.5


def test_a_limit_of_the_other_kind_is_named_when_it_ends() -> None:
    run = sick_run()
    ClipNorm(max_norm=2.0, hold="run").apply(run, decision())
    effect = ClipValue(clip_value=1.0).apply(run, decision())
    assert effect.changes["max_norm"] == (2.0, None)
    effect.undo()
    assert run.clip == Clip("norm", 2.0, FOREVER)
