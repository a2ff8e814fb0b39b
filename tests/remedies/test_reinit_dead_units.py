"""Reviving dead units of real models, the function unchanged."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.remedies.reinit_dead_units import ReinitDeadUnits
from supervisor.run import TrainingRun
from tests.remedies.sick import OPTIMIZERS, decision, fingerprint, seen, sick_run

FINDING = decision("dead_units")


def killed(layer: nn.Linear | nn.Conv2d, units: list[int]) -> None:
    """Let units die as they do in life: a large negative bias."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias[units] = -100.0


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)))))  # type: ignore[no-any-return]


class Cnn(nn.Module):
    """Conv, BatchNorm, grouped conv, flatten, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.head = nn.Linear(6 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.one(x)))
        return self.head(F.relu(self.two(x)).flatten(1))  # type: ignore[no-any-return]


def alive(run: TrainingRun, inputs: Tensor) -> dict[str, int]:
    """Return how many units a fresh look sees awake, by producer."""
    again = seen(run.model, inputs)
    sites = [s for s in again.anatomy.sites if s.name in again.silent_units]
    return {s.producer or s.name: int((~again.silent_units[s.name]).sum()) for s in sites}


def images() -> Tensor:
    return torch.randn(16, 1, 4, 4)


def test_dead_units_live_again_and_the_function_stays() -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(64, 4)
    killed(model.a, [0, 3, 5])
    run = seen(model, x)
    before = model(x)
    effect = ReinitDeadUnits().apply(run, FINDING)
    assert effect.changes["a (units re-initialized)"] == (0, 3)
    assert torch.allclose(model(x), before, atol=1e-6)
    assert alive(run, x)["a"] == 8
    assert run.voided


def test_gradient_reaches_the_outgoing_weights_and_then_the_incoming_ones() -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(64, 4)
    killed(model.a, [0, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = seen(model, x, optimizer=optimizer)
    ReinitDeadUnits().apply(run, FINDING)
    rows = model.a.weight[[0, 3]].clone()
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert bool((model.a.weight[[0, 3]] != rows).any(1).all())


def test_living_units_and_their_moments_are_not_touched() -> None:
    run = sick_run()
    fc1 = run.module("fc1")
    assert isinstance(fc1, nn.Linear)
    state = run.optimizers[0].state[fc1.weight]
    weight, moment = fc1.weight.clone(), state["exp_avg"].clone()
    step = float(state["step"])
    ReinitDeadUnits().apply(run, FINDING)
    dead, columns = run.silent_units[":relu:0"], run.silent_units["act"].repeat_interleave(16)
    kept = ~dead[:, None] & ~columns[None]
    assert torch.equal(fc1.weight[kept], weight[kept])
    assert torch.equal(state["exp_avg"][kept], moment[kept])
    assert not state["exp_avg"][~kept].any()
    assert float(state["step"]) == step


def test_the_flattened_blocks_of_dead_channels_are_zeroed_and_only_towards_the_living() -> None:
    run = sick_run()
    ReinitDeadUnits().apply(run, FINDING)
    blocks = dict(run.model.named_parameters())["fc1.weight"].view(6, 4, 16)
    channels, rows = run.silent_units["act"], run.silent_units[":relu:0"]
    assert not blocks[~rows][:, channels].any()
    assert bool(blocks[~rows][:, ~channels].all())
    assert bool(blocks[rows].all()), "towards reborn units the weights are fresh"


def test_a_dead_channel_with_its_norm_and_grouped_reader_lives_again() -> None:
    torch.manual_seed(0)
    model, x = Cnn(), images()
    with torch.no_grad():
        model.norm.bias[[1, 2]] = -50.0
    killed(model.two, [0, 5])
    run = seen(model, x)
    before = model(x)
    effect = ReinitDeadUnits().apply(run, FINDING)
    assert effect.changes == {"one (units re-initialized)": (0, 2), "two (units re-initialized)": (0, 2)}
    assert torch.allclose(model(x), before, atol=1e-5)
    assert model.norm.weight[[1, 2]].eq(1).all()
    assert not model.norm.bias[[1, 2]].any()
    assert alive(run, x) == {"one": 4, "two": 6}


def test_a_network_dead_through_and_through_can_learn_again() -> None:
    """Outgoing weights towards dead units stay fresh, else the next layer would get nothing for ever."""
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(64, 4)
    killed(model.a, list(range(8)))
    killed(model.b, list(range(6)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    run = seen(model, x, optimizer=optimizer)
    before = model(x)
    ReinitDeadUnits().apply(run, FINDING)
    assert torch.allclose(model(x), before, atol=1e-6)
    target = x[:, :2]
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_knows_no_direction_for_new_rows_and_divides_by_what_is_usual(optimizer: str) -> None:
    run = sick_run(optimizer)
    fc1 = run.module("fc1")
    assert isinstance(fc1, nn.Linear)
    state = run.optimizers[0].state[fc1.weight]
    before = {k: v.clone() for k, v in state.items() if v.shape == fc1.weight.shape}
    ReinitDeadUnits().apply(run, FINDING)
    dead = run.silent_units[":relu:0"][:, None] | run.silent_units["act"].repeat_interleave(16)[None]
    assert before
    for name, old in before.items():
        moment = state[name]
        assert torch.equal(moment[~dead], old[~dead])
        if name in {"exp_avg_sq", "max_exp_avg_sq"}:
            assert float(moment[dead].min()) > 0.1 * float(old[~dead].mean())
            assert float(moment[dead].max()) < 10 * float(old[~dead].mean())
        else:
            assert not moment[dead].any()


def test_the_first_steps_of_a_new_unit_are_no_longer_than_usual_ones() -> None:
    """Adam's bias correction is over for the parameter: with a second moment of zero they would be 6 times longer."""
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(64, 4)
    killed(model.a, [0, 3])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(model(torch.randn(64, 4)), torch.randn(64, 2)).backward()
        optimizer.step()

    for _ in range(300):
        step()
    ReinitDeadUnits().apply(seen(model, x, optimizer=optimizer), FINDING)
    before = model.b.weight.detach().clone()
    for _ in range(20):
        step()
    moved = (model.b.weight.detach() - before).norm(dim=0)
    assert 0 < float(moved[[0, 3]].max()) < 2 * float(moved[[1, 2, 4, 5, 6, 7]].max())


class Read(nn.Module):
    """Units read by a recurrent or an attention layer."""

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        self.a, self.reader, self.head = nn.Linear(4, 8), reader, nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        steps = F.relu(self.a(x)).view(4, 8, 8)
        if isinstance(self.reader, nn.MultiheadAttention):
            return self.head(self.reader(steps, steps, steps)[0])  # type: ignore[no-any-return]
        return self.head(self.reader(steps)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "reader",
    [
        lambda: nn.LSTM(8, 8, batch_first=True),
        lambda: nn.GRU(8, 4, batch_first=True, bidirectional=True),
        lambda: nn.RNN(8, 8, batch_first=True),
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
    ],
)
def test_units_read_by_recurrence_and_attention_live_again_and_the_function_stays(reader: object) -> None:
    torch.manual_seed(0)
    assert callable(reader)
    model, x = Read(reader()), torch.randn(32, 4)
    killed(model.a, [0, 3, 5])
    run = seen(model, x)
    before = model(x)
    effect = ReinitDeadUnits().apply(run, FINDING)
    assert effect.changes == {"a (units re-initialized)": (0, 3)}
    assert torch.allclose(model(x), before, atol=1e-6)
    assert alive(run, x)["a"] == 8
    model(x).square().mean().backward()
    gradients = [p.grad for n, p in model.reader.named_parameters() if "ih_l0" in n or n == "in_proj_weight"]
    assert all(g is not None and (g.ndim == 1 or bool(g[:, [0, 3, 5]].any())) for g in gradients)


class Residual(nn.Module):
    """The head reads the sum of two activations: no column is one layer's own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.a(x))
        return self.c(first + F.relu(self.b(first)))  # type: ignore[no-any-return]


def test_a_reader_of_several_layers_is_left_alone_with_the_reason() -> None:
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(32, 4)
    killed(model.b, [0])
    run = seen(model, x)
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="c reads the units of other layers too"):
        ReinitDeadUnits().apply(run, FINDING)
    assert fingerprint(run) == before


@pytest.mark.parametrize(
    ("part", "why"),
    [("a", "a: the layer is frozen"), ("b", "b, which reads its units, is frozen"), (None, "no dead units are known")],
)
def test_it_refuses_what_it_cannot_write(part: str | None, why: str) -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(32, 4)
    if part is not None:
        killed(model.a, [0])
    run = seen(model, x)
    if part is not None:
        frozen = {id(p) for p in model.get_submodule(part).parameters()}
        run.parameters = [p for p in run.parameters if id(p) not in frozen]
    else:
        run.silent_units = {}
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match=why):
        ReinitDeadUnits().apply(run, FINDING)
    assert fingerprint(run) == before


def test_what_can_be_revived_is_and_the_rest_is_named() -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(32, 4)
    killed(model.a, [0])
    killed(model.b, [1])
    run = seen(model, x)
    run.parameters = [p for p in run.parameters if p is not model.c.weight]
    effect = ReinitDeadUnits().apply(run, FINDING)
    assert set(effect.changes) == {"a (units re-initialized)", "b"}
    assert "frozen" in effect.changes["b"][1]
