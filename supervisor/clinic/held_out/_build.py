"""How the held-out cases are made: a recipe is a well configured training, a fault replaces something in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from supervisor.clinic.case import Case, Family, Program
from supervisor.clinic.tasks import Batch, Task
from supervisor.entry import Training

MakeOptimizer: TypeAlias = Callable[[nn.Module], Optimizer | Sequence[Optimizer]]


Rate: TypeAlias = Callable[[int], float]  # scheduler step -> factor on the learning rate


Corrupt: TypeAlias = Callable[[int, Batch], Batch]  # what the data does to the batch of a tick


Strike: TypeAlias = Callable[[int, nn.Module, Optimizer], None]  # what the user's program does before a tick


@dataclass(frozen=True)
class Recipe:
    """All that makes a training. Calling it with a seed builds the program, the same one for the same seed."""

    task: Callable[[], Task]
    model: Callable[[], nn.Module]
    optimizer: MakeOptimizer
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    steps: int = 600
    size: int = 32  # samples a batch
    init: Callable[[nn.Module], None] | None = None  # in place, after the model's own initialization
    rate: Rate | None = None
    corrupt: Corrupt | None = None
    strike: Strike | None = None
    step: Callable[[nn.Module, Any], Tensor] | None = None  # the loss of a batch, where it is no loss(model(x), y)
    score: Callable[[nn.Module], float] | None = None  # where it is not the task's own; higher is better
    chance: float | None = None  # likewise
    accumulate: int = 1
    context: str | None = None

    def __call__(self, seed: int) -> Program:
        """Build model, optimizer and data anew."""
        torch.manual_seed(seed)
        task, model = self.task(), self.model()
        if self.init is not None:
            self.init(model)
        optimizer = self.optimizer(model)
        first = optimizer if isinstance(optimizer, Optimizer) else optimizer[0]
        training = Training(
            self._train_fn(model),
            model=model,
            optimizer=optimizer,
            data=_Stream(self, task, model, first, seed),
            scheduler=LambdaLR(first, self.rate) if self.rate is not None else None,
            steps=self.steps,
            accumulate=self.accumulate,
            context=self.context,
        )
        score = self.score or task.score
        return Program(training, lambda: _scored(score, model), task.chance if self.chance is None else self.chance)

    def _train_fn(self, model: nn.Module) -> Callable[[Any], Tensor]:
        step = self.step
        if step is not None:
            return lambda batch: step(model, batch)
        return lambda batch: self.loss(model(batch[0]), batch[1])


@dataclass(frozen=True)
class _Stream:
    """Batches without end. What strikes the training strikes when its tick's batch is fetched: once, never again."""

    recipe: Recipe
    task: Task
    model: nn.Module
    optimizer: Optimizer
    seed: int

    def __iter__(self) -> Iterator[Batch]:
        for i, batch in enumerate(self.task.batches(self.recipe.size, self.seed)):
            tick = i // self.recipe.accumulate + 1
            if self.recipe.strike is not None:
                with torch.no_grad():
                    self.recipe.strike(tick, self.model, self.optimizer)
            yield batch if self.recipe.corrupt is None else self.recipe.corrupt(tick, batch)


def _scored(score: Callable[[nn.Module], float], model: nn.Module) -> float:
    training = model.training
    model.eval()
    with torch.no_grad():
        value = score(model)
    model.train(training)
    return value


def sick(
    name: str,
    family: Family,
    twin: Recipe,
    expect: Sequence[str],
    causes: Iterable[str],
    *,
    onset: int = 1,
    **fault: Any,  # noqa: ANN401 - the fields of a recipe
) -> Case:
    """Return the twin with a fault: the fields in `fault` replaced. It is filed under the first of `expect`."""
    build = replace(twin, **fault)
    return Case(name, family, build, frozenset(expect), frozenset(causes), onset, twin, main=expect[0])


def well(name: str, family: Family, recipe: Recipe, trap: str) -> Case:
    """Return a healthy control."""
    return Case(name, family, recipe, trap=trap)


def sgd(lr: float, momentum: float = 0.9, **more: Any) -> MakeOptimizer:  # noqa: ANN401 - the optimizer's own
    """Return a maker of SGD."""
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, **more)


def adam(lr: float, **more: Any) -> MakeOptimizer:  # noqa: ANN401
    """Return a maker of Adam."""
    return lambda model: torch.optim.Adam(model.parameters(), lr=lr, **more)


def adamw(lr: float, **more: Any) -> MakeOptimizer:  # noqa: ANN401
    """Return a maker of AdamW."""
    return lambda model: torch.optim.AdamW(model.parameters(), lr=lr, **more)


def rmsprop(lr: float, **more: Any) -> MakeOptimizer:  # noqa: ANN401
    """Return a maker of RMSprop."""
    return lambda model: torch.optim.RMSprop(model.parameters(), lr=lr, **more)


def adagrad(lr: float) -> MakeOptimizer:
    """Return a maker of Adagrad."""
    return lambda model: torch.optim.Adagrad(model.parameters(), lr=lr)


def places(out: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy over all places of all sequences."""
    return F.cross_entropy(out.flatten(0, 1), target.flatten())


def hits(task: Callable[[], Task]) -> Callable[[nn.Module], float]:
    """Return a score for one logit: the mean over both classes of the share that lies on the right side of 0."""

    def score(model: nn.Module) -> float:
        inputs, target = task().test
        right = ((model(inputs) > 0) == (target > 0.5)).float()
        return float((right[target > 0.5].mean() + right[target <= 0.5].mean()) / 2)

    return score


NON_FINITE: Final = "non_finite"


EXPLODING: Final = "exploding_gradients"


UNSTABLE: Final = "unstable_training"


VANISHING: Final = "vanishing_gradients"


DEAD: Final = "dead_units"


SATURATION: Final = "saturation"


PLATEAU: Final = "plateau"
