"""What may be done by hand to a training whose onset is known: remedies, and what makes sense together.

The name of a treatment is its identity: what was tried is noted by name, so a change of one gets another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Operation = tuple[str, Mapping[str, Any], str]  # remedy, its parameters, the pathology that it is to answer


@dataclass(frozen=True)
class Treatment:
    """A remedy, or several of them."""

    name: str
    operations: tuple[Operation, ...] = ()
    back: bool = False  # return to the state before the onset first
    lr: float = 1.0  # the learning rate is multiplied by this
    hold: bool = False  # no schedule takes it below what it was before the schedule began
    warmup: bool = False  # it rises to that
    clip: float | None = None  # gradient norm, in medians of those before the onset; absolute if it is tick 1
    no_decay: bool = False  # weight decay is set to 0

    @property
    def late(self) -> bool:
        """Whether there is something to do after the onset."""
        course = self.lr != 1.0 or self.hold or self.warmup or self.no_decay
        return bool(self.operations or self.back or course)


_WEIGHTS: Final[Operation] = ("reinit_weights", {}, "vanishing_gradients")
_RELU: Final[Operation] = ("swap_activation", {"to": "relu"}, "vanishing_gradients")
_GELU: Final[Operation] = ("swap_activation", {"to": "gelu"}, "vanishing_gradients")
_LEAKY: Final[Operation] = ("swap_activation", {"to": "leaky_relu"}, "dead_units")
_DEAD: Final[Operation] = ("reinit_dead_units", {}, "dead_units")
_SCALE: Final[Operation] = ("rescale_weights", {}, "vanishing_gradients")
_NORM: Final[Operation] = ("insert_norm", {}, "vanishing_gradients")
_SKIPS: Final[Operation] = ("add_residual", {}, "vanishing_gradients")

_ALONE: Final[dict[str, dict[str, Any]]] = {
    "rollback": {"back": True},
    "reinit_weights": {"operations": (_WEIGHTS,)},
    "swap_activation relu": {"operations": (_RELU,)},
    "swap_activation leaky_relu": {"operations": (_LEAKY,)},
    "reinit_dead_units": {"operations": (_DEAD,)},
    "rescale_weights": {"operations": (_SCALE,)},
    "insert_norm": {"operations": (_NORM,)},
    "add_residual": {"operations": (_SKIPS,)},
}
_COURSE: Final[dict[str, dict[str, Any]]] = {
    "lower_lr 0.3": {"lr": 0.3},
    "lower_lr 0.1": {"lr": 0.1},
    "lower_lr 0.01": {"lr": 0.01},
    "lower_lr 0.001": {"lr": 0.001},
    "raise_lr 3": {"lr": 3.0},
    "raise_lr 10": {"lr": 10.0},
    "raise_lr 100": {"lr": 100.0},
    "raise_lr 1000": {"lr": 1000.0},
    "raise_lr 10000": {"lr": 10000.0},
    "raise_lr hold": {"hold": True},
    "warmup_lr": {"warmup": True},
    "clip_norm usual": {"clip": 1.0},
    "clip_norm usual x 3": {"clip": 3.0},
    "weight_decay 0": {"no_decay": True},
}
_OPERATIONS: Final[dict[str, tuple[Operation, ...]]] = {
    "swap_activation relu + reinit_weights": (_RELU, _WEIGHTS),
    "swap_activation gelu + reinit_weights": (_GELU, _WEIGHTS),
    "swap_activation leaky_relu + reinit_dead_units": (_LEAKY, _DEAD),
    "add_residual + reinit_weights": (_SKIPS, _WEIGHTS),
    "insert_norm + reinit_weights": (_NORM, _WEIGHTS),
    "insert_norm + add_residual": (_NORM, _SKIPS),
    "insert_norm + add_residual + reinit_weights": (_NORM, _SKIPS, _WEIGHTS),
    "swap_activation relu + insert_norm": (_RELU, _NORM),
}
"""Several at once, in the order in which they are done: weights are drawn for the structure that they will have."""

_CALMER: Final = ("lower_lr 0.3", "lower_lr 0.1", "warmup_lr", "clip_norm usual", "weight_decay 0")
_PAIRS: Final = {
    "rollback": (*_CALMER, "lower_lr 0.01", "lower_lr 0.001"),
    "reinit_weights": (*_CALMER, "lower_lr 0.01", "raise_lr 3", "raise_lr 10", "raise_lr 100"),
    "swap_activation relu": ("lower_lr 0.1", "raise_lr 10"),
    "reinit_dead_units": ("lower_lr 0.3", "lower_lr 0.1"),
    "insert_norm": ("lower_lr 0.1",),
}
"""What makes sense together: a new start and a calmer course, or one that gets somewhere."""


def _treatments() -> Iterator[Treatment]:
    yield Treatment("skip_step")
    for name, what in {**_ALONE, **_COURSE}.items():
        yield Treatment(name, **what)
    for name, operations in _OPERATIONS.items():
        yield Treatment(name, operations)
    for name, others in _PAIRS.items():
        for other in others:
            yield Treatment(f"{name} + {other}", **_ALONE[name], **_COURSE[other])
    yield Treatment("rollback + reinit_weights + lower_lr 0.1", (_WEIGHTS,), back=True, lr=0.1)


TREATMENTS: Final = {treatment.name: treatment for treatment in _treatments()}
