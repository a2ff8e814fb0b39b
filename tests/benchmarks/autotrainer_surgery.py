"""AutoTrainer's remedies that change the model, done to one that was just built: re-implementations.

They raise RemedyRefused where the model has no place for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from supervisor.activations import FUNCTIONS
from supervisor.checkpoints import BufferGuard
from supervisor.checkpoints.state import restore_rng, rng_state
from supervisor.entry import Training
from supervisor.entry.owned import OwnedForm
from supervisor.errors import RemedyRefused
from supervisor.records import Decision, Finding, Site
from supervisor.registry import REMEDIES as OURS
from supervisor.remedies._calls import Swap
from supervisor.remedies._replacing import Replace
from supervisor.remedies._wrapping import Alter, Step, perform
from supervisor.run import TrainingRun
from supervisor.signals import Sensor
from supervisor.verification.branches import trial_passes

NOISE: Final = 0.1  # standard deviation behind the first layer; the description names no value

ACTIVATIONS: Final[Mapping[str, tuple[type[nn.Module], Callable[[Tensor], Tensor]]]] = {
    "selu": (nn.SELU, F.selu),
    "relu": (nn.ReLU, F.relu),
    "leaky_relu": (nn.LeakyReLU, F.leaky_relu),
    "tanh": (nn.Tanh, torch.tanh),
}


@dataclass(frozen=True, eq=False)
class _Into(Swap):
    """Calls become calls of any of ACTIVATIONS."""

    def replacement(self, module: nn.Module, call: int) -> Callable[[Tensor], Tensor]:
        return ACTIVATIONS[self.to][1]


def activation(training: Training, to: str) -> Training:
    """Put `to` in the place of every hidden activation that can be swapped; gates and outputs stay."""
    training, run = looked_at(training)
    steps = list(_swaps(run, to))
    if not steps:
        message = f"no hidden activation can become {to}"
        raise RemedyRefused(message)
    perform(steps)
    return training


def _swaps(run: TrainingRun, to: str) -> Iterator[Step]:
    known = {*FUNCTIONS.values()} - {to}
    fit = [site for site in run.anatomy.sites if site.hidden and not site.gate and site.function in known]
    spared = {place for site in run.anatomy.sites if site not in fit for place in _places(site)}
    places = {place for site in fit for place in _places(site)} - spared
    for owner in sorted(owner for owner, _, call in places if call < 0):
        yield Replace(run.model, owner, to, new=ACTIVATIONS[to][0]())
    for owner, function in sorted({(owner, function) for owner, function, call in places if call >= 0}):
        calls = tuple(sorted(call for o, f, call in places if (o, f) == (owner, function)))
        yield Alter(run.module(owner), _Into(function, calls, to))


def _places(site: Site) -> list[tuple[str, str, int]]:
    return [(site.owner, site.function, call) for call in site.calls or (-1,)]


def ours(training: Training, name: str, **params: Any) -> Training:
    """Apply a remedy of ours that does the same, to the untrained model."""
    training, run = looked_at(training)
    where = tuple(layer.name for layer in run.anatomy.layers)
    finding = Finding("vanishing_gradients", 1, 0, where, 1.0, "known")
    OURS[name](**params).apply(run, Decision("d1", name, params, finding, 0, "next on the list", 1, 0))
    return training


def looked_at(training: Training) -> tuple[Training, TrainingRun]:
    """Run the first batch once, so that the model's structure is known; nothing of it stays, and the batch is fed."""
    assert training.model is not None
    assert training.data is not None
    run = TrainingRun(training.model, training.optimizers, training.scheduler)
    run.clock.tick = 1
    random, guard, form = rng_state(run.device), BufferGuard(run.model), OwnedForm(training.train_fn, run)
    sensor, data = Sensor(run, 1), training.data
    group = list(islice(data, training.accumulate))
    guard.remember()
    with trial_passes(), sensor.watching():
        losses = form.compute(group)
    sensor.snapshot(losses, group)
    guard.put_back()
    run.drop_gradients()
    restore_rng(random)
    run.replay = partial(form.replay, group)
    once: Iterable[Any] = chain(group, data) if isinstance(data, Iterator) else data
    return replace(training, data=once), run


def noise(training: Training) -> Training:
    """Add Gaussian noise behind the first layer while training."""
    training, run = looked_at(training)

    def disturb(module: nn.Module, _inputs: Any, out: Any) -> Any:
        if not module.training:
            return out
        if isinstance(out, tuple):
            return (disturb(module, _inputs, out[0]), *out[1:])
        return out + NOISE * torch.randn_like(out)

    run.module(run.anatomy.layers[0].name).register_forward_hook(disturb)
    return training
