"""Swapping hidden activations of a model as the sensor sees it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.remedies.rebuild import rebuild
from supervisor.remedies.swap_activation import SwapActivation
from supervisor.run import TrainingRun
from supervisor.signals import Sensor
from tests.remedies.sick import OPTIMIZERS, decision, fingerprint, seen
from tests.remedies.surgery import MODELS, Loop, ill, promises
from tests.remedies.surgery import x as fixed


class Deep(nn.Module):
    """Functional sigmoids between layers, one of them inside a child, and a sigmoid at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return torch.sigmoid(self.block(x))

    def healed(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        return torch.sigmoid(self.block[2](F.relu(self.block[0](x))))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.value(x) * torch.sigmoid(self.gate(x)))  # type: ignore[no-any-return]


class Formula(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(1 / (1 + torch.exp(-self.first(x))))  # type: ignore[no-any-return]


class Shared(nn.Module):
    """One activation object under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.act = nn.Sigmoid()
        self.parts = nn.ModuleList([self.act])

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.parts[0](self.b(self.act(self.a(x)))))  # type: ignore[no-any-return]


def x() -> Tensor:
    return torch.randn(8, 4)


def test_hidden_sigmoids_and_tanhs_become_relu_and_the_output_stays() -> None:
    """The sensor counts calls as the swap does: children and the output's sigmoid stay out of it."""
    run, inputs = seen(Deep(), x()), x()
    model = run.model
    assert isinstance(model, Deep)
    effect = SwapActivation().apply(run, decision())
    assert torch.equal(model(inputs), model.healed(inputs))
    assert isinstance(model.block[1], nn.ReLU)
    assert set(effect.changes.values()) == {("sigmoid", "relu"), ("tanh", "relu")}
    assert run.voided


def test_the_anatomy_tells_the_new_functions_at_once_and_the_sensor_agrees() -> None:
    run = seen(Deep(), x())
    SwapActivation().apply(run, decision())
    at_once = [(site.function, site.hidden) for site in run.anatomy.sites]
    again = seen(run.model, x())
    assert at_once == [(site.function, site.hidden) for site in again.anatomy.sites]
    assert at_once.count(("relu", True)) == 4


def test_undo_brings_back_modules_class_and_anatomy() -> None:
    run, inputs = seen(Deep(), x()), x()
    before, anatomy, tanh = run.model(inputs), run.anatomy, run.module("block.1")
    effect = SwapActivation().apply(run, decision())
    effect.undo()
    assert torch.equal(run.model(inputs), before)
    assert run.module("block.1") is tanh
    assert (run.anatomy, run.surgeries, run.voided, type(run.model)) == (anatomy, [], "", Deep)


def test_the_undo_after_a_rollback_behind_the_surgery_does_nothing_twice() -> None:
    run, inputs = seen(Deep(), x()), x()
    before = run.model(inputs)
    effect = SwapActivation().apply(run, decision())
    run.undo_surgeries(kept=())
    effect.undo()
    assert torch.equal(run.model(inputs), before)


def test_swaps_compose_and_are_taken_back_last_in_first_out() -> None:
    run, inputs = seen(Deep(), x()), x()
    before = run.model(inputs)
    SwapActivation(to="relu").apply(run, decision())
    middle = run.model(inputs)
    again = seen(run.model, x())
    again.surgeries = run.surgeries
    SwapActivation(to="gelu").apply(again, decision("dead_units", "nowhere"))
    assert not torch.equal(run.model(inputs), middle)
    run.undo_surgeries(kept=tuple(run.surgeries[:1]))
    assert torch.equal(run.model(inputs), middle)
    run.undo_surgeries(kept=())
    assert torch.equal(run.model(inputs), before)


def test_dead_units_are_answered_where_they_were_found() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    run = seen(model, x())
    SwapActivation(to="leaky_relu").apply(run, decision("dead_units", "2"))
    assert isinstance(model[1], nn.ReLU)
    assert isinstance(model[3], nn.LeakyReLU)
    assert model[3].inplace


def test_without_a_match_all_hidden_rectifiers_are_swapped() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
    SwapActivation(to="elu").apply(seen(model, x()), decision("dead_units"))
    assert [type(model[i]) for i in (1, 3, 5)] == [nn.ELU, nn.ELU, nn.ReLU]


def test_a_shared_module_is_replaced_everywhere_with_its_hooks_and_mode() -> None:
    model, calls = Shared(), []
    handle = model.act.register_forward_hook(lambda *_: calls.append(1))
    run = seen(model.eval(), x())
    calls.clear()
    SwapActivation().apply(run, decision())
    model(x())
    assert model.act is model.parts[0]
    assert isinstance(model.act, nn.ReLU)
    assert not model.act.training
    assert len(calls) == 2
    handle.remove()
    model(x())
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("model", "pathology", "why"),
    [
        (Gated(), "vanishing_gradients", "sigmoid, gate"),
        (Formula(), "vanishing_gradients", "formula written by hand"),
        (nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()), "vanishing_gradients", "sigmoid, output"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "vanishing_gradients", "relu, hidden"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "dead_units", "use leaky_relu"),
    ],
)
def test_it_refuses_and_says_what_there_is(model: nn.Module, pathology: str, why: str) -> None:
    run = seen(model, x())
    with pytest.raises(RemedyRefused, match=why):
        SwapActivation().apply(run, decision(pathology))
    assert run.surgeries == []


def test_a_surgery_that_fails_half_way_leaves_nothing() -> None:
    model = Deep()
    change = {"to": "relu", "modules": ["block.1", "block.0"], "calls": []}
    with pytest.raises(RemedyRefused, match=r"block\.0 is Linear"):
        SwapActivation.operate(model, change)
    assert isinstance(model.block[1], nn.Tanh)


def test_the_model_itself_is_no_place_for_a_module_swap() -> None:
    change = {"to": "relu", "modules": [""], "calls": []}
    with pytest.raises(RemedyRefused, match="the model itself is Sigmoid"):
        SwapActivation.operate(nn.Sigmoid(), change)


def test_a_healed_state_dict_loads_into_a_rebuilt_model_and_gives_the_same_outputs() -> None:
    run, inputs = seen(Deep(), x()), x()
    SwapActivation().apply(run, decision())
    fresh = rebuild(Deep(), [dict(surgery.change) for surgery in run.surgeries])
    fresh.load_state_dict(run.model.state_dict())
    assert torch.equal(fresh(inputs), run.model(inputs))


def test_a_deep_copy_of_the_healed_model_is_healed() -> None:
    run, inputs = seen(Deep(), x()), x()
    SwapActivation().apply(run, decision())
    twin = copy.deepcopy(run.model)
    assert torch.equal(twin(inputs), run.model(inputs))
    assert list(twin.state_dict()) == list(Deep().state_dict())


def test_gradients_flow_to_the_first_layer_after_swap_and_reinit() -> None:
    """The rung that cures: what vanished over the sigmoids arrives with ReLU and fresh weights."""
    from supervisor.remedies.reinit_weights import ReinitWeights

    def first_gradient(run: TrainingRun) -> float:
        run.model.zero_grad()
        run.model(inputs).square().mean().backward()
        gradient = next(iter(run.model.parameters())).grad
        assert gradient is not None
        return float(gradient.norm())

    torch.manual_seed(0)
    hidden = [m for _ in range(10) for m in (nn.Linear(16, 16), nn.Sigmoid())]
    run, inputs = seen(nn.Sequential(nn.Linear(4, 16), nn.Sigmoid(), *hidden, nn.Linear(16, 2)), x()), x()
    before = first_gradient(run)
    SwapActivation().apply(run, decision())
    ReinitWeights().apply(run, decision())
    assert first_gradient(run) > 1e4 * before


def test_an_activation_torchs_own_layer_calls_is_swapped_in_training_and_evaluation() -> None:
    """In evaluation a transformer layer has a fused path with its activation built in: it must not be taken."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    inputs = torch.randn(3, 5, 4)
    expected = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, activation=F.leaky_relu)
    expected.load_state_dict(model.state_dict())
    SwapActivation(to="leaky_relu").apply(seen(model, inputs), decision("dead_units"))
    assert torch.equal(model(inputs), expected(inputs))
    with torch.no_grad():
        assert torch.allclose(model.eval()(inputs), expected.eval()(inputs), atol=1e-6)


def test_an_activation_called_outside_the_model_is_refused_and_not_reported_as_swapped() -> None:
    """`train_fn` applies it itself: there is no module whose forward could be changed."""
    model = nn.ModuleDict({"a": nn.Linear(4, 8), "b": nn.Linear(8, 8), "c": nn.Linear(8, 2)})

    def step(x: torch.Tensor) -> torch.Tensor:
        hidden = torch.sigmoid(model["b"](torch.sigmoid(model["a"](x))))
        return model["c"](hidden).square().mean()  # type: ignore[no-any-return]

    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), 0.1),))
    sensor = Sensor(run, 10)
    run.clock.tick = 1
    x = torch.randn(16, 4)
    with sensor.watching():
        loss = step(x)
    loss.backward()
    sensor.snapshot([loss.detach()], [x])
    assert [(site.owner, site.hidden) for site in run.anatomy.sites] == [("(train_fn)", True)] * 2
    with pytest.raises(RemedyRefused, match="train_fn"):
        SwapActivation(to="relu").apply(run, decision("vanishing_gradients", "a"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("to", ["relu", "prelu"])
@pytest.mark.parametrize("model", [name for name in MODELS if name != "tokens"])
def test_it_is_exact_reversible_and_can_be_rebuilt(model: str, to: str, optimizer: str) -> None:
    promises("swap_activation", MODELS[model], optimizer, to=to)


def test_each_functional_site_learns_a_slope_of_its_own() -> None:
    run = ill(Loop)
    SwapActivation(to="prelu").apply(run, decision())
    slopes = [name for name, _ in run.model.named_parameters() if "prelu" in name]
    assert slopes == [f"prelu_sigmoid_{call}.weight" for call in range(5)]
    run.model.zero_grad()
    run.model(fixed()).square().mean().backward()
    gradients = [dict(run.model.named_parameters())[name].grad for name in slopes]
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


class Sometimes(Loop):
    """Calls its last sigmoid only while it is asked to."""

    asked = True

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        return self.head(torch.sigmoid(self.layers[0](x)) if self.asked else self.layers[0](x))  # type: ignore[no-any-return]


class Switched(nn.Sequential):
    """An activation module that is no longer called."""

    asked = True

    def forward(self, x: Tensor) -> Tensor:
        return self[2](self[1](self[0](x)) if self.asked else self[0](x))  # type: ignore[no-any-return]


def test_a_swap_that_no_pass_shows_is_taken_back() -> None:
    run = ill(lambda: Switched(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2)))
    run.model.asked = False  # type: ignore[assignment]
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="the swap is not visible in a pass: 1 did not call relu"):
        SwapActivation().apply(run, decision())
    assert fingerprint(run) == before


def test_a_shorter_pass_than_the_one_that_was_seen_is_no_objection() -> None:
    run = ill(Sometimes)
    run.model.asked = False  # type: ignore[assignment]
    assert len(SwapActivation().apply(run, decision()).changes) == 2


@pytest.mark.parametrize("to", ["relu", "leaky_relu", "prelu", "elu", "selu", "gelu"])
def test_module_and_function_compute_the_same(to: str) -> None:
    as_module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    run = seen(as_module, x())
    SwapActivation(to=to).apply(run, decision())  # type: ignore[arg-type]

    class Functional(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[1](torch.tanh(self[0](x)))  # type: ignore[no-any-return]

    again = seen(Functional(as_module[0], as_module[2]), x())
    SwapActivation(to=to).apply(again, decision())  # type: ignore[arg-type]
    assert torch.equal(run.model(fixed()), again.model(fixed()))
