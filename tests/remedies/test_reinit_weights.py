"""Fresh initialization by layer kind and by the activation that follows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.records import Anatomy, Layer, LayerKind, Site
from supervisor.remedies.reinit_weights import ReinitWeights
from supervisor.run import TrainingRun
from tests.remedies.sick import decision, fingerprint, seen, sick_run
from tests.remedies.surgery import replayed

WIDE = 400


def run_of(module: nn.Module, kind: LayerKind, function: str | None = None) -> TrainingRun:
    """Return a run of one layer called "0", all its weights far from where they began."""
    model = nn.Sequential(module)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    run = TrainingRun(model, (torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1),))
    units = next(module.parameters()).shape[0]
    sites = () if function is None else (Site("1", function, "1", (), "0", units, hidden=True, gate=False),)
    run.anatomy = Anatomy((Layer("0", kind, 1),), sites)
    return run


@pytest.mark.parametrize("function", ["relu", "gelu", "elu", "leaky_relu"])
@pytest.mark.parametrize(
    ("layer", "kind", "fan_in"),
    [
        (lambda: nn.Linear(WIDE, 100), "linear", WIDE),
        (lambda: nn.Conv2d(40, 100, 3), "conv", 360),
        (lambda: nn.Conv2d(100, 100, 3, groups=100), "conv", 9),
        (lambda: nn.ConvTranspose2d(40, 100, 3), "conv", 360),
    ],
)
def test_he_before_the_rectifier_family(layer: object, kind: LayerKind, fan_in: int, function: str) -> None:
    assert callable(layer)
    run = run_of(layer(), kind, function)
    ReinitWeights().apply(run, decision())
    weight, bias = run.parameters
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_in), rel=0.1)
    assert not bias.any()


@pytest.mark.parametrize("function", ["sigmoid", "tanh", None])
def test_glorot_before_squashing_functions_and_where_none_follows(function: str | None) -> None:
    run = run_of(nn.Linear(WIDE, 100), "linear", function)
    ReinitWeights().apply(run, decision())
    assert float(run.parameters[0].detach().std()) == pytest.approx(math.sqrt(2 / (WIDE + 100)), rel=0.05)
    assert float(run.parameters[0].detach().abs().max()) <= math.sqrt(6 / (WIDE + 100))


@pytest.mark.parametrize("cls", [nn.LSTM, nn.LSTMCell, nn.GRU, nn.RNN])
def test_recurrent_layers_gate_by_gate_with_an_open_forget_gate(cls: type[nn.Module]) -> None:
    module = cls(5, 6)
    run = run_of(module, "recurrent")
    ReinitWeights().apply(run, decision())
    named = dict(module.named_parameters())
    for name, parameter in named.items():
        if "weight_hh" in name:
            for block in parameter.split(6):
                assert torch.allclose(block @ block.T, torch.eye(6), atol=1e-5)
        elif "weight_ih" in name:
            assert float(parameter.detach().abs().max()) <= math.sqrt(6 / 11)
        else:
            forget = cls in (nn.LSTM, nn.LSTMCell) and "ih" in name
            assert parameter.split(6)[1 if len(parameter) > 6 else 0].eq(1.0 if forget else 0.0).all()
            assert float(parameter.detach().sum()) == (6.0 if forget else 0.0)


@pytest.mark.parametrize("module", [nn.BatchNorm1d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)])
def test_norm_layers_become_neutral(module: nn.Module) -> None:
    run = run_of(module, "norm")
    if isinstance(module, nn.BatchNorm1d):
        assert module.running_var is not None
        module.running_var.fill_(9.0)
    ReinitWeights().apply(run, decision())
    values = {"weight": 1.0, "bias": 0.0, "running_var": 1.0, "running_mean": 0.0, "num_batches_tracked": 0.0}
    assert all(tensor.eq(values[name]).all() for name, tensor in module.state_dict().items())


def test_a_raw_matrix_is_initialized_and_other_raw_parameters_stay() -> None:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.zeros(60, WIDE)), nn.Parameter(torch.zeros(4))

    run = run_of(Raw(), "other", "relu")
    ReinitWeights().apply(run, decision())
    matrix, vector = run.parameters
    assert float(matrix.detach().std()) == pytest.approx(math.sqrt(2 / WIDE), rel=0.05)
    assert vector.eq(7.0).all()


@pytest.mark.parametrize(
    "module",
    [nn.Embedding(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4, bias=False))],
)
def test_embeddings_and_parametrized_weights_stay(module: nn.Module) -> None:
    run = run_of(module, "embedding")
    run.anatomy = Anatomy((Layer("0", "other", 1), Layer("0.parametrizations.weight", "linear", 1)))
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="has a trained weight"):
        ReinitWeights().apply(run, decision())
    assert fingerprint(run) == before


def test_a_tied_weight_is_initialized_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    run = seen(nn.Sequential(first, nn.ReLU(), second), torch.randn(3, 4))
    effect = ReinitWeights().apply(run, decision())
    assert sum("weight" in name for name in effect.changes) == 1
    assert first.weight is second.weight


def test_half_precision_weights_can_be_initialized() -> None:
    run = run_of(nn.LSTM(3, 4).bfloat16(), "recurrent")
    ReinitWeights().apply(run, decision())
    assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in run.parameters)


@pytest.mark.parametrize("optimizer", ["adam", "adam-fused", "adam-amsgrad", "sgd-momentum", "nadam"])
def test_the_next_step_is_that_of_a_fresh_optimizer(optimizer: str) -> None:
    """Moments and step count forget: what follows equals a new optimizer on the new weights."""
    run = sick_run(optimizer)
    ReinitWeights().apply(run, decision())
    twin = sick_run(optimizer)
    with torch.no_grad():
        for theirs, ours in zip(twin.model.parameters(), run.model.parameters(), strict=True):
            theirs.copy_(ours)
    twin.optimizers[0].state.clear()
    run.optimizers[0].step()
    twin.optimizers[0].step()
    trained = [name for name, p in run.model.named_parameters() if p.requires_grad and "table" not in name]
    stepped, expected = dict(run.model.named_parameters()), dict(twin.model.named_parameters())
    assert all(torch.allclose(stepped[name], expected[name], rtol=1e-5, atol=1e-7) for name in trained)


def test_only_the_found_layers_if_so_asked() -> None:
    run = sick_run()
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    ReinitWeights(layers="found").apply(run, decision("vanishing_gradients", "fc1", "nowhere"))
    changed = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"fc1.weight", "fc1.bias"}


def test_the_seed_governs_what_is_drawn() -> None:
    def weights() -> list[Tensor]:
        run = sick_run()
        torch.manual_seed(9)
        ReinitWeights().apply(run, decision())
        return run.parameters  # type: ignore[return-value]

    assert all(map(torch.equal, weights(), weights()))


def test_a_model_that_is_itself_the_layer_is_found() -> None:
    run = seen(nn.Linear(4, 2), torch.randn(3, 4))
    assert "model.weight (rms)" in ReinitWeights().apply(run, decision()).changes


class Written(nn.Module):
    """A recurrence written by hand, and a square layer that is run twice without one."""

    def __init__(self) -> None:
        super().__init__()
        self.feed, self.back, self.twice, self.head = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 6)
        for step in x.view(len(x), -1, 6).unbind(1):
            h = torch.tanh(self.feed(step) + self.back(h))
        return self.head(torch.relu(self.twice(h)) * torch.relu(self.twice(-h)))  # type: ignore[no-any-return]


def is_orthogonal(layer: nn.Module) -> bool:
    assert isinstance(layer, nn.Linear)
    return torch.allclose(layer.weight @ layer.weight.T, torch.eye(6), atol=1e-5)


def test_a_recurrence_written_by_hand_becomes_orthogonal_and_nothing_else() -> None:
    inputs = torch.randn(8, 24)
    run = replayed(seen(Written(), inputs), inputs)
    ReinitWeights().apply(run, decision())
    found = [name for name in ("feed", "back", "twice", "head") if is_orthogonal(run.module(name))]
    assert found == ["back"]


class Skips(nn.Module):
    """Residual branches that nothing normalizes, as many as asked for."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 64), nn.Linear(64, 2)
        self.ins = nn.ModuleList([nn.Linear(64, 64) for _ in range(branches)])
        self.outs = nn.ModuleList([nn.Linear(64, 64) for _ in range(branches)])
        self.size = 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = start = self.embed(x)
        for first, second in zip(self.ins, self.outs, strict=True):
            x = x + second(torch.relu(first(x)))
        self.size = float(x.detach().std() / start.detach().std())
        return self.head(x)  # type: ignore[no-any-return]


def test_residual_branches_stay_of_the_size_of_what_they_are_added_to() -> None:
    """Without the scale 32 branches make a thousand times as much of it (Hayou et al., 2021)."""
    torch.manual_seed(0)
    model, inputs = Skips(32), torch.randn(32, 4)
    ReinitWeights().apply(replayed(seen(model, inputs), inputs), decision())
    model(inputs)
    assert model.size < 3
