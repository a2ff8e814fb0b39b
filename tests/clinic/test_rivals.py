"""The rivals of the benchmark do what their descriptions say, and are judged and charged like a supervised run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from supervisor.clinic.case import Case
from supervisor.clinic.run import gather, plan
from supervisor.clinic.runs import Ran, arm, build, examine, run_plain
from supervisor.entry import Training
from supervisor.errors import RemedyRefused, UsageError
from tests.benchmarks import autotrainer as procedure
from tests.benchmarks.autotrainer import MOST, ORDER, SYMPTOMS, autotrainer
from tests.benchmarks.autotrainer_remedies import REMEDIES
from tests.benchmarks.random_remedy import at_random
from tests.benchmarks.repair import ARMS
from tests.clinic import tiny


def bare(case: Case) -> Ran:
    return run_plain(build(case.build, 0))


def test_the_arms_of_the_benchmark_are_there() -> None:
    assert [arm(name) for name in ARMS] == [at_random, autotrainer]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no_such_module:f", "no_such_module:f: there is no module 'no_such_module'"),
        ("tests.clinic.tiny:drawm", "has no function 'drawm'. Did you mean 'drawn'?"),
        ("random", "random: expected MODULE:FUNCTION"),
    ],
)
def test_an_arm_that_is_not_there_is_a_mistake(name: str, complaint: str) -> None:
    with pytest.raises(UsageError) as error:
        arm(name)
    assert complaint in str(error.value)


def test_arms_are_run_beside_a_supervised_one_on_faulty_cases_alone() -> None:
    jobs = plan([tiny.NAN, tiny.HEALTHY], 1, "default", Path("records").absolute(), baselines=True, arms=ARMS)
    cases = {case.name: case for case in tiny.CASES}
    results = ((job, examine(cases[job.case], job)) for job in jobs)
    found = {row.case.name: row for row in gather([tiny.NAN, tiny.HEALTHY], results, half=lambda _: "held-out")}
    assert set(found["mlp/healthy"].runs) == {"bare", "supervised", "clipped"}
    row = found["mlp/nan-batch"]
    assert (row.error, set(row.runs)) == ("", {"bare", "supervised", "clipped", "twin", *ARMS})


@pytest.mark.parametrize("rival", [at_random, autotrainer])
def test_a_healthy_training_is_left_alone(rival: object) -> None:
    came = rival(tiny.HEALTHY, 0)  # type: ignore[operator]
    assert (came.score, came.ticks, came.interventions) == (bare(tiny.HEALTHY).score, tiny.STEPS, ())


def test_lots_are_drawn_at_the_first_finding_and_again_after_a_probation() -> None:
    came, again = at_random(tiny.DEEP, 0), at_random(tiny.DEEP, 0)
    assert came.findings
    assert 1 <= len(came.interventions) <= 1 + (came.ticks - came.findings[0].tick) // 50
    assert (came.interventions, came.score) == (again.interventions, again.score)
    assert {at_random(tiny.DEEP, seed).interventions for seed in range(3)} != {came.interventions}


def test_a_symptom_is_answered_by_its_list_in_order_until_nothing_is_found() -> None:
    came = autotrainer(tiny.DEEP, 0)
    tried = came.interventions
    assert tried
    assert tried == ORDER["vanishing gradients"][: len(tried)]
    assert came.ticks >= tiny.STEPS + 0.3 * tiny.STEPS * len(tried)
    assert not came.findings or len(tried) == len(ORDER["vanishing gradients"])


def test_a_rejected_training_is_paid_for_until_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN batch comes with every retraining: all five remedies for explosions fail."""
    monkeypatch.setattr(procedure, "MOST", 2)
    came = autotrainer(tiny.NAN, 0)
    assert came.interventions == ("selu", "clip")  # its own activation is ReLU
    assert (came.ticks, came.passes) == (2 * tiny.NAN_AT + tiny.STEPS, 2.0)


def test_every_symptom_has_remedies_and_every_remedy_is_built() -> None:
    assert set(SYMPTOMS.values()) == set(ORDER)
    assert {name for names in ORDER.values() for name in names} == set(REMEDIES)
    assert MOST == 6


def altered(name: str, activation: type[nn.Module] = nn.ReLU) -> Training:
    return REMEDIES[name](build(partial(tiny.classifier, activation=activation), 0).training)


@pytest.mark.parametrize("name", sorted(REMEDIES))
def test_a_training_goes_on_under_every_remedy(name: str) -> None:
    activation = nn.Sigmoid if name == "relu" else nn.ReLU
    recipe = partial(tiny.classifier, activation=activation)
    program = build(recipe, 0)
    if name in {"momentum", "adam"}:
        sgd = torch.optim.SGD(program.training.model.parameters(), lr=0.1)  # type: ignore[union-attr]
        program = replace(program, training=replace(program.training, optimizer=sgd))
    treated = run_plain(replace(program, training=REMEDIES[name](program.training)))
    untreated = run_plain(build(recipe, 0))
    assert treated.score > treated.chance
    assert treated != untreated


@pytest.mark.parametrize("name", ["adam", "momentum", "relu"])
def test_a_remedy_that_is_there_already_is_refused(name: str) -> None:
    with pytest.raises(RemedyRefused):
        altered(name)


@pytest.mark.parametrize("to", ["selu", "tanh", "leaky relu"])
def test_activations_are_swapped_as_modules(to: str) -> None:
    names = {type(m).__name__.lower() for m in altered(to).model.modules()}  # type: ignore[union-attr]
    assert to.replace(" ", "") in names
    assert "relu" not in names


class Functional(nn.Module):
    """An activation called as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(13, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))  # type: ignore[no-any-return]


def test_activations_are_swapped_as_functions() -> None:
    model, program = Functional(), tiny.classifier(0)
    x, y = torch.randn(4, 13), torch.zeros(4, dtype=torch.long)
    training = replace(
        program.training, train_fn=lambda batch: F.cross_entropy(model(batch[0]), batch[1]), model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), data=[(x, y)],
    )  # fmt: skip
    REMEDIES["tanh"](training)
    assert torch.equal(model(x), model.last(torch.tanh(model.first(x))))


def test_the_batch_that_was_looked_at_is_fed_as_well() -> None:
    first = next(iter(tiny.classifier(0).training.data))[0]  # type: ignore[arg-type]
    training = altered("selu")
    assert torch.equal(next(iter(training.data))[0], first)  # type: ignore[arg-type]


def test_a_batch_twice_as_large_takes_half_the_steps_and_costs_the_same() -> None:
    program = build(tiny.classifier, 0)
    ran = procedure._trained(program, REMEDIES["batch size"](program.training))
    assert (ran.steps, ran.ticks, ran.passes) == (tiny.STEPS // 2, tiny.STEPS, 1.0)
