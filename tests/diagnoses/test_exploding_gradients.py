"""A spike with harm is found, one without is not, and none blinds the judge of the next."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from supervisor.diagnoses import causes
from supervisor.diagnoses.past import SHIFT
from supervisor.records import Finding, Layer, Snapshot
from tests.diagnoses.shots import ANATOMY, examined, sample, shot, usual
from tests.diagnoses.trainings import deep, digits_like, he, optimizers, watch


def exploding(snapshots: list[Snapshot]) -> list[Finding]:
    return [finding for finding in examined(snapshots) if finding.pathology == "exploding_gradients"]


def test_a_spike_with_harm_is_found_in_its_tick() -> None:
    (finding,) = exploding([*usual(60), shot(61, 5.0, 100.0), shot(62)])
    assert finding.tick == 61
    assert finding.evidence["value"] == 100.0
    assert 2.0 < finding.evidence["limit"] < 10.0
    assert finding.evidence["typical"] == pytest.approx(1.0, rel=0.1)
    assert finding.evidence["loss"] > finding.evidence["loss_limit"]


@pytest.mark.parametrize(
    ("loss", "norm"), [(1.0, 1000.0), (0.5, 1000.0), (5.0, 2.0), (1.3, 100.0)],
    ids=["a spike alone", "a spike with progress", "a bad loss alone", "a spike in the noise"],
)  # fmt: skip
def test_a_spike_without_harm_is_not(loss: float, norm: float) -> None:
    assert exploding([*usual(60), shot(62, loss, norm)]) == []


@pytest.mark.parametrize(("loss", "seen"), [(0.1, False), (1.0, True)])
def test_a_hard_input_in_a_solved_task_does_no_harm(loss: float, seen: bool) -> None:  # noqa: FBT001
    """What counts is what is given back of what was learned, not how many times a loss near 0 it is."""
    solved = [dataclasses.replace(now, tick=now.tick + 5) for now in usual(250, loss=0.001, norm=0.01)]
    shots = [*(shot(t, 1.5, 1.0) for t in range(1, 6)), *solved, shot(300, loss, 2.0)]
    assert [finding.tick for finding in exploding(shots)] == [300] * seen


def test_a_spike_is_seen_while_the_loss_falls_by_decades() -> None:
    falling = [shot(t, 10.0 ** (1 - t / 40), 10.0 ** (1 - t / 40)) for t in range(1, 81)]
    assert [finding.tick for finding in exploding([*falling, shot(81, 100.0, 100.0)])] == [81]


def test_second_spike_is_seen_after_a_first() -> None:
    """Neither a monstrous spike nor a NaN before it lifts the limit."""
    shots = [*usual(60), shot(61, 1e6, 1e9), shot(62), shot(63, math.nan, math.inf), shot(64), shot(65, 3.0, 25.0)]
    assert [finding.tick for finding in exploding(shots)] == [61, 65]


def test_a_burst_of_spikes_is_seen_from_its_first_to_its_last() -> None:
    shots = [*usual(60), *(shot(61 + t, 50.0, 500.0) for t in range(30))]
    assert [finding.tick for finding in exploding(shots)] == list(range(61, 91))


def test_a_level_that_rises_without_harm_moves_the_baseline() -> None:
    """After a restart of the learning rate gradients may be large for good: the new level is guarded."""
    raised = [dataclasses.replace(now, tick=now.tick + 60) for now in usual(SHIFT + 20, seed=1, norm=50.0)]
    assert exploding([*usual(60), *raised]) == []
    assert exploding([*usual(60), *raised, shot(200, 5.0, 110.0)]) == []
    assert [f.tick for f in exploding([*usual(60), *raised, shot(200, 5.0, 5000.0)])] == [200]


def test_no_spike_is_judged_without_enough_past() -> None:
    assert exploding([*usual(15), shot(16, 50.0, 1000.0)]) == []


def test_the_loudest_layers_are_named_and_a_recurrent_one_is_a_suspect() -> None:
    layers = (*ANATOMY.layers[:4], Layer("rnn", "recurrent", 100))
    anatomy = dataclasses.replace(ANATOMY, layers=layers)
    norms = np.array([1, 1, 1, 30, 95], np.float32)
    (finding,) = exploding([*usual(60), shot(61, 5.0, 100.0, grad_norms=norms, anatomy=anatomy)])
    assert finding.where == ("rnn", "d")
    assert "recurrent network" in {cause.name for cause in finding.causes}


def test_rewritten_weights_and_a_loss_above_its_beginning_are_found_from_the_first_ticks_on() -> None:
    (finding,) = exploding([shot(1), shot(2), shot(3, 9.0, 5.0, sample=sample(moved=2.0))])
    assert finding.evidence["value"] == pytest.approx(2.0)
    assert finding.where == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(("loss", "moved"), [(0.9, 2.0), (9.0, 0.2), (9.0, math.nan)])
def test_rewriting_without_harm_and_harm_without_rewriting_are_not(loss: float, moved: float) -> None:
    assert exploding([shot(1), shot(2), shot(3, loss, 1.0, sample=sample(moved))]) == []


def test_the_evidence_is_of_the_layers_that_are_named() -> None:
    moved = np.array([0.1, 0.9, 0.1, 0.1, 50.0], np.float32)
    layers = (*ANATOMY.layers[:4], Layer("norm", "norm", 100))
    anatomy = dataclasses.replace(ANATOMY, layers=layers)
    shown = dataclasses.replace(sample(), update_norms=moved)
    (finding,) = exploding([shot(1), shot(2), shot(3, 9.0, 1.0, sample=shown, anatomy=anatomy)])
    assert finding.where == ("b",)
    assert finding.evidence["value"] == pytest.approx(0.9)


def test_a_quiet_layer_is_judged_by_its_own_past() -> None:
    """Its spike drowns in the norm of the whole; with harm beside it, it counts."""
    loud = np.array([100, 1, 1, 1, 1], np.float32)
    calm = [dataclasses.replace(now, grad_norm=100.0, grad_norms=loud) for now in usual(200)]
    spiking = np.array([100, 1, 60, 1, 1], np.float32)
    (finding,) = exploding([*calm, shot(201, 5.0, 116.0, grad_norms=spiking)])
    assert (finding.where, finding.evidence["value"]) == (("c",), 60.0)
    assert exploding([*calm, shot(201, 1.0, 116.0, grad_norms=spiking)]) == []


# Root causes


def first_cause(snapshots: list[Snapshot]) -> str:
    return exploding(snapshots)[0].cause


def test_one_bad_tick_in_a_usual_training_is_a_bad_batch() -> None:
    assert first_cause([*usual(60), shot(61, 5.0, 100.0)]) == causes.BAD_BATCH


def test_a_loss_that_jumps_as_the_square_of_the_gradients_has_a_bad_target() -> None:
    assert first_cause([*usual(60), shot(61, 1e4, 100.0)]) == causes.BAD_TARGET


def test_a_spike_after_the_rate_rose_is_the_rates() -> None:
    assert first_cause([*usual(60), shot(61, lr=10.0), shot(62, 5.0, 100.0, lr=10.0)]) == causes.LARGE_LR


def test_a_spike_in_a_loss_that_climbs_is_the_rates() -> None:
    climbing = [shot(60 + t, 1.0 + 0.2 * t, 1.0 + t) for t in range(1, 6)]
    assert first_cause([*usual(60), *climbing, shot(66, 9.0, 300.0, sample=sample(moved=0.4))]) == causes.LARGE_LR


def test_weights_that_leapt_without_a_step_are_the_cause() -> None:
    leapt = dataclasses.replace(sample(), weight_norms=np.array([1, 30, 30, 1, 1], np.float32))
    finding = exploding([*usual(60), shot(61, 900.0, 100.0, sample=leapt)])[0]
    assert finding.cause == causes.LARGE_WEIGHTS
    assert finding.causes[0].evidence["growth"] == pytest.approx(30.0)


def test_each_cause_is_named_once_the_likeliest_first() -> None:
    for finding in exploding([*usual(60), shot(61, 5.0, 100.0), shot(62, 50.0, 1e4)]):
        names = [cause.name for cause in finding.causes]
        weights = [cause.weight for cause in finding.causes]
        assert len(set(names)) == len(names)
        assert weights == sorted(weights, reverse=True)
        assert finding.cause == names[0]


def test_an_absolute_limit_stands_for_itself() -> None:
    shots = [*usual(30), shot(31, 1.0, 150.0)]
    assert [f.tick for f in examined(shots, exploding_gradients={"max_norm": 100.0})] == [31]
    assert examined(shots) == []


# Real trainings


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_bad_batch_is_found_whatever_the_scale_of_the_loss(scale: float) -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=3))
    data = digits_like()

    def with_one_bad_batch(tick: int) -> None:
        bad["now"] = tick == 60

    bad = {"now": False}

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images = batch[0] * (1000.0 if bad["now"] else 1.0)
        return scale * nn.functional.cross_entropy(model(images), batch[1], label_smoothing=0.1)

    seen = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3), data, 80, loss=loss, between=with_one_bad_batch)
    assert [finding.tick for finding in seen.of("exploding_gradients")] == [60]
    assert {finding.pathology for finding in seen.findings} == {"exploding_gradients"}


def test_a_wild_learning_rate_is_found_within_a_few_ticks() -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def wild(tick: int) -> None:
        optimizer.param_groups[0]["lr"] = 50.0 if tick == 50 else 0.05

    seen = watch(model, optimizer, digits_like(), 60, between=wild)
    first = seen.findings[0]
    assert first.pathology in ("exploding_gradients", "non_finite")
    assert 51 <= first.tick <= 53


def test_divergence_from_the_first_step_is_found() -> None:
    torch.manual_seed(0)
    model = he(deep(nn.ReLU, depth=3))
    seen = watch(model, torch.optim.SGD(model.parameters(), lr=5.0), digits_like(), 12)
    assert seen.findings
    assert seen.findings[0].tick <= 6


def grown(model: nn.Module, factor: float) -> nn.Module:
    """Return the model with every weight matrix multiplied."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_weights_that_amplify_layer_by_layer_are_found_at_the_start(name: str, scale: float) -> None:
    """Whatever the optimizer makes of the gradients: the chain rule's factors are above one."""
    torch.manual_seed(0)
    model = grown(he(deep(nn.ReLU, depth=10)), 3.0)

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return scale * nn.functional.cross_entropy(model(batch[0]), batch[1])

    seen = watch(model, optimizers(1e-4)[name](model), digits_like(), 4, loss=loss)
    found = seen.of("exploding_gradients")
    assert found[0].tick == 1
    assert found[0].causes[0].name == causes.INITIALIZATION
    assert causes.DEPTH in {cause.name for cause in found[0].causes}
    assert found[0].evidence["value"] > 3.0
    assert np.prod(list(found[0].evidence["amplification"].values())) > 1e3


class Block(nn.Module):
    """A residual branch without a norm: the signal grows with every one."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, self.second(torch.relu(self.first(x))))


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "residual branches without a norm": lambda: nn.Sequential(
        nn.Linear(20, 32), *(Block() for _ in range(10)), nn.Linear(32, 4)
    ),
    "he": lambda: he(deep(nn.ReLU, depth=20)),
    "torch's own initialization": lambda: deep(nn.ReLU, depth=12),
    "large weights between norms": lambda: grown(
        nn.Sequential(
            nn.Linear(20, 32), *(m for _ in range(8) for m in (nn.Linear(32, 32), nn.LayerNorm(32), nn.ReLU())),
            nn.Linear(32, 4),
        ),
        3.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 1e5])
@pytest.mark.parametrize("name", HEALTHY)
def test_depth_alone_is_no_explosion(name: str, scale: float) -> None:
    torch.manual_seed(0)
    model = HEALTHY[name]()
    data = ((scale * x, y) for x, y in digits_like()) if name != "he" else digits_like()
    seen = watch(model, torch.optim.Adam(model.parameters(), lr=1e-4), data, 25)
    assert seen.of("exploding_gradients") == []


class Recurrent(nn.Module):
    """Reads a sequence of 20 steps and names its class."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(6, 32, batch_first=True), nn.Linear(32, 4)
        for name, parameter in self.rnn.named_parameters():
            with torch.no_grad():  # hardly any input, so that no unit saturates
                parameter.mul_(0.0 if "bias" in name else 0.05)
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter, gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])  # type: ignore[no-any-return]


def test_gradients_that_grow_through_time_are_the_recurrences() -> None:
    """The last sample's growth towards the early steps is the evidence; orthogonal weights have none."""
    found = {}
    for gain in (1.0, 4.0):
        torch.manual_seed(0)
        model = Recurrent(gain)
        data = ((1e-9 * torch.randn(16, 20, 6), torch.randint(4, (16,))) for _ in range(100))
        found[gain] = watch(model, torch.optim.SGD(model.parameters(), lr=1e-20), data, 60).of("exploding_gradients")
    assert found[1.0] == []
    assert found[4.0][0].tick <= 31
    assert found[4.0][0].where[0] == "rnn"
    assert {causes.RECURRENCE, causes.INITIALIZATION} <= {cause.name for cause in found[4.0][0].causes[:3]}


def test_an_optimizer_with_a_second_moment_is_left_to_shrug_off_one_wild_gradient() -> None:
    """Adam answers it with a step little larger than usual; SGD would throw the weights about."""
    torch.manual_seed(0)
    found = {}
    for name in ("sgd", "adam"):
        model = he(deep(nn.ReLU, depth=3))
        scale = {"now": 1.0}

        def loss(batch: tuple[torch.Tensor, torch.Tensor], model: nn.Module = model) -> torch.Tensor:
            return nn.functional.cross_entropy(model(batch[0] * scale["now"]), batch[1], label_smoothing=0.1)  # noqa: B023

        def hit(tick: int) -> None:
            scale["now"] = 50.0 if tick == 60 else 1.0  # noqa: B023

        seen = watch(model, optimizers()[name](model), digits_like(), 80, loss=loss, between=hit)
        found[name] = [finding.tick for finding in seen.of("exploding_gradients")][:1]
    assert found == {"sgd": [60], "adam": []}
