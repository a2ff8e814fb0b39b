"""Questions to the optimizer: who is trained, and how fast."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from torch.optim import Optimizer

from supervisor.checklists.first_pass import FirstPass
from supervisor.checklists.matrices import matrices
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned

RATES: Final = {
    "SGD": (1e-5, 2.0),  # over 1 - momentum
    "Adam": (1e-6, 1e-2),
    "AdamW": (1e-6, 1e-2),
    "NAdam": (1e-6, 1e-2),
    "RAdam": (1e-6, 1e-2),
    "Adamax": (1e-6, 2e-2),
    "SparseAdam": (1e-6, 1e-2),
    "RMSprop": (1e-6, 1e-2),
    "Adagrad": (1e-5, 0.5),
    "Adadelta": (1e-3, 10.0),
    "Adafactor": (1e-6, 5e-2),
    "ASGD": (1e-5, 2.0),
    "Lion": (1e-7, 1e-3),
    "Muon": (1e-5, 0.2),
}
"""The learning rates that are usual to start with. 1e-4 to 1e-3 is the reference's advice, for the Adam family."""

STEP_HIGH: Final = 0.5  # first update over weights, by layer
STEP_LOW: Final = 1e-7  # of the layer that moves most: below it float32 weights stand still


def _held(now: FirstPass) -> list[Any]:
    return [p for o in now.optimizers for group in o.param_groups for p in group["params"]]


def parameters_held(now: FirstPass) -> Answer:
    """Ask whether an optimizer holds every trainable parameter."""
    held = {id(p) for p in _held(now)}
    trainable = {name: p for name, p in now.parameters.items() if p.requires_grad}
    left = [name for name, p in trainable.items() if id(p) not in held]
    if left:
        reason = f"{len(left)} of {len(trainable)} trainable parameters are in no optimizer: {shown(left)}"
        advice = "Build the optimizer from model.parameters() after the model is complete, or freeze them on purpose."
        return warned(reason, advice, left, missing=len(left))
    return passed(f"all {len(trainable)} trainable parameters are held")


def parameters_foreign(now: FirstPass) -> Answer:
    """Ask whether the optimizer holds only what is trained here."""
    own = {id(p) for p in now.model.parameters()}
    foreign = [p for p in _held(now) if id(p) not in own]
    idle = [p for p in foreign if id(p) not in now.outside]
    if idle:
        shapes = shown(str(tuple(p.shape)) for p in idle)
        reason = f"the optimizer holds {len(idle)} parameters that are not the model's and got no gradient: {shapes}"
        advice = "Rebuild the optimizer from this model: layers replaced or added later are not in it."
        return warned(reason, advice, foreign=len(idle))
    beside = f"; {len(foreign)} more are beside it and get gradients" if foreign else ""
    return passed(
        f"the optimizer holds the model's parameters alone{beside}" if not beside else f"all are used{beside}"
    )


def parameters_twice(now: FirstPass) -> Answer:
    """Ask whether every parameter is stepped once."""
    names = {id(p): name for name, p in now.parameters.items()}
    counts = Counter(id(p) for p in _held(now))
    twice = [names.get(identity, "?") for identity, count in counts.items() if count > 1]
    if twice:
        reason = f"{len(twice)} parameters are held more than once and are stepped as often: {shown(twice)}"
        return warned(reason, "Put each parameter in one group of one optimizer.", twice, twice=len(twice))
    return passed("each parameter is in one group")


def frozen(now: FirstPass) -> Answer:
    """Ask whether what is frozen is meant to be."""
    still = [name for name, p in now.parameters.items() if not p.requires_grad]
    if not still:
        return inapplicable("nothing is frozen")
    reason = f"{len(still)} of {len(now.parameters)} parameters are frozen: {shown(still)}"
    groups = [group["params"] for o in now.optimizers for group in o.param_groups if group["params"]]
    if any(all(not p.requires_grad for p in params) for params in groups):
        advice = "Unfreeze them (requires_grad_(True)), or leave the group out."
        return warned(f"{reason}; a param_group of the optimizer holds nothing else", advice, still, frozen=len(still))
    last = next((name for name in reversed(now.order) if any(f"{name}.weight" == one for one in now.parameters)), "")
    if f"{last}.weight" in still:
        return warned(f"{reason}; the output layer is among them", "Train at least the last layer.", still)
    return passed(reason, still, frozen=len(still))


def learning_rate(now: FirstPass) -> Answer:
    """Ask for a learning rate above zero."""
    groups = [group for o in now.optimizers for group in o.param_groups]
    rates = [float(group["lr"]) for group in groups if "lr" in group]
    if not rates:
        return inapplicable("the optimizer has no learning rate")
    standing = [g for g in groups if "lr" in g and not float(g["lr"]) > 0]
    rising = [g for g in standing if float(g.get("initial_lr", 0.0)) > 0]
    if len(standing) > len(rising):
        reason = f"the learning rate is {min(rates):g} in {len(standing) - len(rising)} of {len(groups)} param_groups"
        return warned(reason, "Give every group a learning rate above 0, or leave it out.", lr=min(rates))
    if rising:
        return passed(f"0 now; a scheduler warms it up to {max(float(g['initial_lr']) for g in rising):g}")
    return passed(f"{', '.join(f'{rate:g}' for rate in dict.fromkeys(rates))}", lr=rates[0])


def learning_rate_range(now: FirstPass) -> Answer:
    """Ask whether the learning rate is usual for its optimizer."""
    told, known = [], False
    for optimizer in now.optimizers:
        name = type(optimizer).__name__
        for group in optimizer.param_groups if name in RATES else ():
            known = True
            low, high = RATES[name]
            rate, what = _effective(optimizer, group)
            if rate > 0 and not low <= rate <= high:
                reason = f"{name}: {what}, usual are {low:g} to {high:g}"
                return warned(reason, "Start between 1e-4 and 1e-3 (Adam) or at 1e-2 (SGD).", lr=rate, limit=high)
            told.append(f"{name}: {what}, usual are {low:g} to {high:g}")
    return passed(shown(dict.fromkeys(told))) if known else inapplicable("no usual range is known for this optimizer")


def _effective(optimizer: Optimizer, group: dict[str, Any]) -> tuple[float, str]:
    """Return the learning rate as it acts in the long run, and as a text."""
    rate = float(group.get("initial_lr", group["lr"]))
    momentum = float(group.get("momentum", 0.0))
    if type(optimizer).__name__ == "SGD" and 0 < momentum < 1 and not group.get("dampening"):
        return rate / (1 - momentum), f"lr {rate:g} with momentum {momentum:g} acts as {rate / (1 - momentum):.3g}"
    return rate, f"lr {rate:g}"


def first_step(now: FirstPass) -> Answer:
    """Ask whether the first step would move the weights by a sensible amount."""
    if not now.steps:
        return inapplicable("the first update of this optimizer cannot be tried on a copy")
    reached = _reached(now)
    begun_small = {m.layer: m.size / m.neutral for m in matrices(now)}  # on purpose: an output, a branch
    steps = {name: ratio * min(1.0, begun_small.get(name, 1.0)) for name, ratio in now.steps.items() if name in reached}
    if not steps:
        return inapplicable("no finite gradient arrives at a weight")
    most = max(steps, key=lambda name: steps[name])
    figure = f"the first step moves the weights by up to {steps[most]:.2g} of their norm ({most})"
    if not steps[most] <= STEP_HIGH:
        return warned(
            f"{figure}, limit {STEP_HIGH:g}", "Lower the learning rate, or warm it up.", [most], by_layer=steps
        )
    if steps[most] < STEP_LOW and not warming(now.optimizers):
        return warned(f"{figure}, at least {STEP_LOW:g}", "Raise the learning rate.", [most], by_layer=steps)
    return passed(figure, by_layer=steps)


def warming(optimizers: Sequence[Optimizer]) -> bool:
    """Return whether a scheduler has begun with a learning rate below the one it was given."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups if "lr" in group]
    return any(float(group.get("initial_lr", group["lr"])) > float(group["lr"]) for group in groups)


def _reached(now: FirstPass) -> set[str]:
    """Return the layers with a weight matrix that a finite gradient arrives at."""
    if now.snapshot is None:
        return set()
    norms = dict(zip((layer.name for layer in now.anatomy.layers), now.snapshot.grad_norms.tolist(), strict=True))
    return {name for name in now.matrices if 0 < norms[name] < math.inf}
