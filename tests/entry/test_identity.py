"""A healthy training under supervision is the bare loop, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.entry.optimizers import OPTIMIZERS, SCHEDULERS
from tests.entry.trainings import Batch, Lab, batches, lab, seed_all, values


def ones(data: Iterable[Batch]) -> Iterable[Sequence[Batch]]:
    return ([batch] for batch in data)


def assert_healthy_twin(bare: Lab, supervised: Lab, train: Callable[[Lab], Any]) -> None:
    """Assert that the training which `train` supervises ends where `bare` ended; random numbers included."""
    end = values(bare)  # before the second one draws
    seed_all(4)  # as `lab` does
    report = train(supervised)
    assert values(supervised) == end
    assert supervised.losses == bare.losses
    assert (report.health, report.findings, report.interventions) == ("healthy", [], [])


def twins(*args: Any, **kwargs: Any) -> tuple[Lab, Lab]:
    second = lab(*args, **kwargs)
    return lab(*args, **kwargs), second


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer: str) -> None:
    bare, supervised = twins(optimizer)
    bare.bare(ones(batches(60)))
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(batches(60)))


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_every_kind_of_schedule(schedule: str) -> None:
    bare, supervised = twins("adam", SCHEDULERS[schedule])
    bare.bare(ones(batches(40)))
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(batches(40)))


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_micro_batches(accumulate: int) -> None:
    bare, supervised = twins()
    data = batches(30)
    bare.bare([data[i : i + accumulate] for i in range(0, 30, accumulate)])
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(data, accumulate=accumulate))


def test_a_last_step_of_fewer_micro_batches_averages_over_those() -> None:
    bare, supervised = twins()
    data = batches(8)
    bare.bare([data[:3], data[3:6], data[6:]])
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(data, accumulate=3))


def test_several_optimizers() -> None:
    bare, supervised = twins()
    for training in (bare, supervised):
        body = [p for name, p in training.model.named_parameters() if not name.startswith("head")]
        head = training.model.get_submodule("head").parameters()
        training.optimizers[:] = [torch.optim.AdamW(body, lr=0.01), torch.optim.SGD(head, lr=0.1, momentum=0.9)]
    bare.bare(ones(batches(40)))
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(batches(40)))


class Augmented(Dataset[Batch]):
    """Draws from python's, numpy's and torch's random numbers for every item, as augmentations do."""

    def __init__(self) -> None:
        [(self.x, self.y)] = batches(1, size=40)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Batch:
        noise = random.gauss(0, 0.01) + np.random.normal(0, 0.01) + 0.01 * torch.randn(6)  # noqa: NPY002
        return self.x[index] + noise.float(), self.y[index]


@pytest.mark.parametrize("dataset", [TensorDataset(*batches(1, size=40)[0]), Augmented()], ids=["plain", "augmented"])
def test_epochs_over_a_shuffled_loader(dataset: Dataset[Any]) -> None:
    bare, supervised = twins()
    loader = DataLoader(dataset, batch_size=8, shuffle=True)
    bare.bare([batch] for _ in range(4) for batch in loader)
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(loader, epochs=4))


def test_accumulated_micro_batches_of_a_shuffled_loader() -> None:
    bare, supervised = twins()
    loader = DataLoader(TensorDataset(*batches(1, size=48)[0]), batch_size=8, shuffle=True)

    def pairs() -> Iterable[Sequence[Batch]]:
        for _ in range(4):
            epoch = iter(loader)
            yield from zip(epoch, epoch, strict=True)

    bare.bare(pairs())
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(loader, epochs=4, accumulate=2))


def test_steps_that_end_within_an_epoch() -> None:
    bare, supervised = twins()
    loader = DataLoader(TensorDataset(*batches(1, size=40)[0]), batch_size=8, shuffle=True)

    def eighteen() -> Iterable[Sequence[Batch]]:
        count = 0
        while True:
            for batch in loader:
                yield [batch]
                count += 1
                if count == 18:
                    return

    bare.bare(eighteen())
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(loader, steps=18))


def test_evaluation_in_between() -> None:
    """Also one that draws random numbers and switches the model to eval mode and back."""
    bare, supervised = twins()
    scores: dict[int, list[float]] = {id(bare): [], id(supervised): []}

    def evaluate(training: Lab) -> float:
        scores[id(training)].append(training.accuracy() + float(torch.rand(())))
        return scores[id(training)][-1]

    bare.bare(ones(batches(30)), after_step=lambda step: evaluate(bare) if step % 7 == 0 else None)
    evaluate(bare)
    assert_healthy_twin(
        bare, supervised,
        lambda it: it.supervised(batches(30), evaluate=lambda: evaluate(supervised), evaluate_every=7),
    )  # fmt: skip
    assert scores[id(bare)] == scores[id(supervised)]


def test_a_seed_given_is_a_seed_set_by_hand() -> None:
    first, second = twins()
    seed_all(11)
    first.bare(ones(batches(20)))
    end = values(first)
    seed_all(99)
    second.supervised(batches(20), seed=11)
    assert values(second) == end


def test_with_mlflow_beside_it() -> None:
    """A mirror in another thread draws no random numbers of ours either."""
    bare, supervised = twins()
    bare.bare(ones(batches(20)))
    assert_healthy_twin(bare, supervised, lambda it: it.supervised(batches(20), tracking="mlflow"))


def test_nothing_hangs_on_the_model_the_data_or_torch_afterwards() -> None:
    training = lab()
    data = batches(20)
    before = {name: sorted(vars(module)) for name, module in training.model.named_modules()}
    training.supervised(data)
    tensors: list[Tensor] = [
        *training.model.parameters(),
        *training.model.buffers(),
        *(t for pair in data for t in pair),
    ]
    assert [vars(tensor) for tensor in tensors if vars(tensor)] == []
    assert {name: sorted(vars(module)) for name, module in training.model.named_modules()} == before
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
    assert not any(module._forward_hooks or module._backward_hooks for module in training.model.modules())


def test_a_frozen_part_and_a_tied_weight_are_no_matter() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(6, 6).requires_grad_(requires_grad=False)
            self.up, self.down = nn.Linear(6, 6), nn.Linear(6, 6)
            self.down.weight = self.up.weight
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.down(torch.relu(self.up(self.frozen(x))))))  # type: ignore[no-any-return]

    trainings = []
    for _ in range(2):
        seed_all(3)
        model = Tied()
        trainings.append(Lab(model, [torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)]))
    trainings[0].bare(ones(batches(30)))
    seed_all(3)
    trainings[1].supervised(batches(30))
    assert values(trainings[1], rng=False) == values(trainings[0], rng=False)
