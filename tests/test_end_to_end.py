"""Real trainings that fall ill and are healed, through `supervise()` alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor import Policy, rebuild
from supervisor.recording.metrics import read_snapshots
from tests.entry.trainings import Batch, Lab, batches, lab, picture, poisoned, seed_all


class Plain(nn.Module):
    """A ReLU network without normalization: what happens to it stays in its weights."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x)))))  # type: ignore[no-any-return]


def plain(lr: float = 0.01) -> Lab:
    seed_all(3)
    model = Plain()
    return Lab(model, [torch.optim.Adam(model.parameters(), lr=lr)])


def deep_sigmoid(depth: int = 10, width: int = 24) -> nn.Module:
    seed_all(3)
    layers: list[nn.Module] = [nn.Linear(6, width), nn.Sigmoid()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def interfering(training: Lab, at: int, change: object) -> Lab:
    """Let somebody else change the model before the forward pass of one call."""
    ordinary = training.train_step

    def step(batch: Batch) -> Tensor:
        if training.calls + 1 == at:
            with torch.no_grad():
                change()  # type: ignore[operator]
        return ordinary(batch)

    training.train_step = step  # type: ignore[method-assign]
    return training


def test_one_bad_batch_is_skipped_and_that_was_it() -> None:
    training = lab()
    report = training.supervised(poisoned(batches(80), 40))
    assert [(d.remedy, d.tick, d.finding.cause) for d in report.decisions] == [("skip_step", 41, "bad batch")]
    assert [v.status for v in report.verdicts] == ["resolved"]
    assert (report.status, report.health, report.ticks, report.steps) == ("completed", "recovered", 80, 79)
    assert training.accuracy() > 0.75


def test_bursts_of_bad_batches_are_survived() -> None:
    training = lab()
    report = training.supervised(poisoned(batches(150), 20, 21, 22, 60, 90, 91))
    assert {d.remedy for d in report.interventions} == {"skip_step"}
    assert (report.status, report.health, report.steps) == ("completed", "recovered", 144)
    assert training.accuracy() > 0.75


@pytest.mark.parametrize("first", [1, 30])
def test_bad_batches_for_ever_end_in_a_named_stop(first: int) -> None:
    """The training is left as the last known-good state, not as a ruin."""
    training = lab()
    report = training.supervised(poisoned(batches(200), *range(first - 1, 200)))
    assert report.status == "stopped"
    assert "non_finite" in report.stop_reason
    assert report.ticks < first + 40
    assert {d.remedy for d in report.decisions[:-1]} == {"skip_step"}  # the data is to blame: no state is any better
    assert report.decisions[-1].remedy == "stop"
    assert report.health == "unresolved"
    assert all(bool(torch.isfinite(p).all()) for p in training.model.parameters())


def test_bad_batches_for_ever_never_exceed_the_limit_of_skips() -> None:
    training = lab()
    rules = {"name": "patient", "extends": "default", "respond": {"non_finite": [{"skip_step": {"budget": 500}}]}}
    report = training.supervised(poisoned(batches(200), *range(10, 200)), policy=Policy.from_dict(rules))
    assert (report.status, report.ticks) == ("stopped", 31)
    assert "20 steps in a row" in report.decisions[-1].reason


def test_parameters_ruined_from_outside_come_back() -> None:
    training = plain()
    weight = training.model.get_parameter("second.weight")
    interfering(training, 50, lambda: weight.fill_(math.nan))
    report = training.supervised(batches(150))
    assert [(d.remedy, d.finding.cause) for d in report.decisions] == [("rollback", "non-finite parameters")]
    assert [v.status for v in report.verdicts] == ["resolved"]
    assert (report.status, report.health) == ("completed", "recovered")
    assert training.model.get_parameter("second.weight") is weight
    assert training.accuracy() > 0.8


def test_a_huge_batch_is_clipped_and_the_accuracy_does_not_suffer() -> None:
    data = [(x, torch.cat([y[:-2], (y[-2:] + 1) % 3])) for x, y in batches(160)]  # two labels in a batch are wrong
    untouched = plain()
    untouched.supervised(data, run_dir="untouched")
    training = plain()
    data[60] = (data[60][0] * 1e4, data[60][1])
    report = training.supervised(data)
    first = report.decisions[0]
    assert (first.remedy, first.finding.pathology, first.tick) == ("clip_norm", "exploding_gradients", 61)
    assert {d.remedy for d in report.interventions} == {"clip_norm"}
    assert report.verdicts[0].status == "resolved"
    assert report.health == "recovered"
    assert training.accuracy() > untouched.accuracy() - 0.03


def test_dead_units_live_again() -> None:
    training = plain()
    bias = training.model.get_parameter("first.bias")
    interfering(training, 30, lambda: bias.fill_(-10.0))
    report = training.supervised(batches(300))
    first = report.interventions[0]
    assert (first.remedy, first.finding.pathology) == ("reinit_dead_units", "dead_units")
    assert "first" in first.finding.where
    assert "resolved" in {v.status for v in report.verdicts}
    shares = [shot.sample.silent[0, 4] for shot in read_snapshots(report.run_dir) if shot.sample is not None]
    assert max(shares) > 0.9
    assert shares[-1] < 0.3
    assert training.accuracy() > 0.8


def test_a_deep_sigmoid_network_learns_after_all() -> None:
    """It stays at chance alone; swap and fresh weights, as one rung, heal it. The surgery can be repeated elsewhere."""
    data = batches(400, size=32)
    alone = Lab(deep_sigmoid(), [])
    alone.optimizers.append(torch.optim.Adam(alone.model.parameters(), lr=0.003))
    alone.bare([one] for one in data)
    healed = Lab(deep_sigmoid(), [])
    healed.optimizers.append(torch.optim.Adam(healed.model.parameters(), lr=0.003))
    report = healed.supervised(data)
    assert [d.remedy for d in report.interventions[:2]] == ["swap_activation", "reinit_weights"]
    assert report.interventions[0].finding.pathology == "vanishing_gradients"
    assert report.verdicts[0].status == "resolved"
    assert alone.accuracy() < 0.6
    assert healed.accuracy() > 0.8
    fresh = rebuild(deep_sigmoid(), report.model_changes)
    fresh.load_state_dict(healed.model.state_dict())
    assert Lab(fresh, []).accuracy() == healed.accuracy()


def test_the_same_seed_gives_the_same_story_twice() -> None:
    """Detection, remedies and their random numbers included."""
    ends = []
    for run_dir in ("one", "two"):
        training = plain()
        interfering(training, 40, training.model.get_parameter("second.weight").zero_)
        report = training.supervised(poisoned(batches(120), 20, 70), run_dir=run_dir, seed=5)
        ends.append((picture(training)["parameters"], [(d.id, d.remedy, d.tick, d.reason) for d in report.decisions]))
    assert ends[0] == ends[1]
