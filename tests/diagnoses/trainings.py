"""Small real trainings, watched by the real sensor and judged by the real detectors, treated by nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.diagnoses.examiner import Examiner, build_detectors
from supervisor.records import Finding, Snapshot
from supervisor.run import TrainingRun
from supervisor.signals import Sensor

Batch = tuple[Tensor, Tensor]


@dataclass
class Watched:
    """What was seen of a training."""

    snapshots: list[Snapshot] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def of(self, pathology: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.pathology == pathology]

    @property
    def losses(self) -> list[float]:
        return [now.loss for now in self.snapshots]


def watch(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterator[Any],
    ticks: int,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    every: int = 10,
    between: Callable[[int], None] = lambda _tick: None,
    **detect: Any,
) -> Watched:
    """Train for `ticks`; `between` is called before each of them."""
    compute = loss or (lambda batch: F.cross_entropy(model(batch[0]), batch[1]))
    run = TrainingRun(model, (optimizer,))
    sensor, examiner, seen = Sensor(run, every, suspicious=0.5), Examiner(build_detectors(detect)), Watched()
    for tick in range(1, ticks + 1):
        between(tick)
        run.clock.tick = tick
        batch = next(batches)
        run.drop_gradients()
        with sensor.watching():
            value = compute(batch)
            value.backward()
        now = sensor.snapshot([value.detach()], [batch])
        seen.snapshots.append(now)
        seen.findings += examiner.examine(now)
        sensor.before_step()
        run.take_step(now.loss)
    return seen


def digits_like(width: int = 20, classes: int = 4, size: int = 64, seed: int = 0) -> Iterator[Batch]:
    """Yield batches of blobs, one a class, that any healthy network learns to tell apart within some dozen steps."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    while True:
        labels = torch.randint(classes, (size,), generator=generator)
        yield centres[labels] + 0.5 * torch.randn(size, width, generator=generator), labels


def deep(activation: Callable[[], nn.Module], depth: int = 12, width: int = 32, inputs: int = 20) -> nn.Sequential:
    """Return `depth` linear layers, each but the last with an activation."""
    layers: list[nn.Module] = []
    for i in range(depth - 1):
        layers += [nn.Linear(inputs if i == 0 else width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def he(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return model


def optimizers(lr: float = 1e-3) -> dict[str, Callable[[nn.Module], Optimizer]]:
    return {
        "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=10 * lr, momentum=0.9),
        "adam": lambda model: torch.optim.Adam(model.parameters(), lr=lr),
    }
