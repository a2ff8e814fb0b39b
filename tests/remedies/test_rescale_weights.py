"""Unit variance at every layer in one pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.remedies.rescale_weights import RescaleWeights
from supervisor.run import TrainingRun
from tests.remedies.sick import OPTIMIZERS, decision, fingerprint, seen, take_step
from tests.remedies.surgery import MODELS, Loop, Tokens, ill, images, replayed, x


def outputs(run: TrainingRun) -> dict[str, Tensor]:
    """Return what each Linear and Conv layer returns, the bias apart."""
    found: dict[str, Tensor] = {}
    hooks = [
        m.register_forward_hook(lambda m, _, out, n=n: found.__setitem__(n, out - _bias(m)))
        for n, m in run.model.named_modules()
        if isinstance(m, (nn.Linear, nn.Conv2d))
    ]
    assert run.replay is not None
    run.replay()
    for hook in hooks:
        hook.remove()
    return found


def _bias(layer: nn.Linear | nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias if isinstance(layer, nn.Linear) else layer.bias.view(-1, 1, 1)


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_one_pass_gives_every_layer_unit_variance(model: str, *, orthogonal: bool) -> None:
    run = ill(MODELS[model])
    changes = RescaleWeights(orthogonal=orthogonal).apply(run, decision()).changes
    layers = [name.removesuffix(" (std of output)") for name in changes if name.endswith("(std of output)")]
    assert layers
    found = outputs(run)
    for name in layers:
        assert float(found[name].std()) == pytest.approx(1.0, abs=0.06)
    assert run.voided


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_undo_is_bit_exact_and_training_goes_on(optimizer: str) -> None:
    run = ill(Loop, optimizer)
    before = fingerprint(run)
    effect = RescaleWeights().apply(run, decision())
    first = run.module("first")
    assert isinstance(first, nn.Linear)
    moments = [v for v in run.optimizers[0].state[first.weight].values() if v.shape == first.weight.shape]
    assert all(not moment.any() for moment in moments)
    effect.undo()
    assert fingerprint(run) == before
    RescaleWeights().apply(run, decision())
    take_step(run, x())


def test_biases_outputs_and_layers_before_a_norm_stay() -> None:
    run = ill(images)
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    effect = RescaleWeights().apply(run, decision())
    changed = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"1.weight", "3.weight"}
    assert "a norm follows" in effect.changes["5"][1]
    assert "an output" in effect.changes["9"][1]


class Odd(nn.Module):
    """A tied pair, a layer that runs twice, one that is frozen, and one that returns zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied, self.again = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.frozen, self.zero, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.tied.weight = self.first.weight
        self.frozen.requires_grad_(requires_grad=False)
        nn.init.zeros_(self.zero.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(torch.tanh(self.again(self.tied(self.first(x)))))
        x = self.frozen(x)
        return self.head(x + self.zero(x))  # type: ignore[no-any-return]


def test_what_must_not_be_rescaled_is_left_and_the_reason_named() -> None:
    run = ill(Odd)
    with torch.no_grad():
        run.module("zero").weight.zero_()  # type: ignore[operator]
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="unit variance already"):
        RescaleWeights().apply(run, decision())
    assert fingerprint(run) == before


def test_a_second_time_there_is_nothing_to_do() -> None:
    run = ill(Tokens)
    RescaleWeights().apply(run, decision())
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="unit variance already"):
        RescaleWeights().apply(run, decision())
    assert fingerprint(run) == before


def test_without_a_batch_to_run_again_it_refuses() -> None:
    run = seen(Loop(), x())
    with pytest.raises(RemedyRefused, match="cannot run a batch again"):
        RescaleWeights().apply(run, decision())


def test_half_precision_weights_are_measured_in_full() -> None:
    model = Loop().bfloat16()
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), 0.1),))
    effect = RescaleWeights().apply(replayed(run, x().bfloat16()), decision())
    assert len(effect.changes) == 6
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
