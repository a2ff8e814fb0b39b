"""Frozen facts that travel through the loop: plain numbers and strings, never a tensor.

Everything that judges (detectors, policy, verdicts) sees a training through these records alone.
That is what makes a recorded run replayable: the same records give the same findings and decisions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

PATHOLOGIES: Final = (
    "non_finite",
    "exploding_gradients",
    "unstable_training",
    "vanishing_gradients",
    "dead_units",
    "saturation",
    "plateau",
)
"""All pathologies, the most urgent first: the order in which findings of one tick are answered."""

UPSETTING: Final = frozenset({"non_finite", "exploding_gradients", "unstable_training"})
"""Pathologies that do harm at every tick: they do not wait for a cooldown, and their ticks are no usual ones."""

CLIPS: Final = frozenset({"clip_norm", "clip_value"})
"""Remedies that set a limit, and act in the ticks in which it is exceeded."""

CLIPPED: Final = {"norm": "grad_norm", "value": "grad_value"}
"""By kind of clip, the figure whose change in an outcome shows that it fired."""

REFLEXES: Final = CLIPS | {"skip_step"}
"""Remedies that act within the tick and leave model and course as they are."""

CLOCKED: Final = frozenset({"lower_lr", "raise_lr", "warmup_lr", "reduce_lr_on_plateau", "weight_decay"})
"""Remedies that only set something on the clock of ticks, which no rollback takes back."""

RENEWING: Final = frozenset({"reinit_weights", "rescale_weights", "swap_activation", "insert_norm", "add_residual"})
"""Remedies after which gradients are of another size, in good health too."""

WITHIN_THE_TICK: Final = REFLEXES | {"skip_batches", "advise", "stop"}
"""Remedies that neither change the model nor its course: they need no trial."""

SILENCE_LENGTHS: Final = tuple(2**k for k in range(8))
"""For how many samples in a row a unit was silent: the columns of `Sample.silent` (1, 2, ... 128)."""

TIME_BINS: Final = 8
"""Into how many equal parts the time steps of a recurrent layer are gathered: the columns of `Sample.time_flow`."""

ORIGINS: Final = ("input", "target", "parameters", "buffers", "optimizer", "forward", "loss", "backward")
"""Where a non-finite value may begin. `loss` is behind the last layer, `backward` in gradients of a finite loss."""

BAD_DATA: Final = frozenset({"input", "target"})
"""Origins that say nothing about the model: the batch is to blame."""

RUINED_STATE: Final = frozenset({"parameters", "buffers", "optimizer"})
"""Origins that the next tick starts from again: leaving one step out does not help."""

LayerKind = Literal["linear", "conv", "recurrent", "norm", "embedding", "other"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A module that holds trainable parameters of its own."""

    name: str
    kind: LayerKind
    size: int  # trainable elements


@dataclass(frozen=True, slots=True)
class Site:
    """A place where an activation function is applied in the forward pass."""

    name: str  # module path, or "path:function:n" where n is the first of `calls`
    function: str  # torch's name: "relu", "sigmoid", ...
    owner: str  # path of the module in whose forward it is called
    calls: tuple[int, ...]  # which functional calls of this function in one forward of owner; (): a module's own
    producer: str | None  # the layer whose output it transforms
    units: int
    hidden: bool  # a layer with weights follows: not the model's output
    gate: bool  # its output is multiplied elementwise (GLU, squeeze-excitation)
    consumers: tuple[str, ...] = ()  # the layers that read its units


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What is being trained, in the order of the forward pass. Constant between surgeries."""

    layers: tuple[Layer, ...]
    sites: tuple[Site, ...] = ()
    skips: int = 0  # sums of two computed tensors that stem from different layers: residual connections
    mismatch: str = ""  # where output and loss do not fit: "cross_entropy of softmax"
    adaptive: bool = False  # the optimizer divides by a second moment (Adam), so that one gradient moves little


@dataclass(frozen=True)
class Sample:
    """The figures that are too dear for every tick. NaN where one is not known."""

    weight_norms: FloatArray  # (layers,)
    update_norms: FloatArray  # (layers,), of the last step taken
    spread: FloatArray  # (layers,), how far the units' weights differ, relative to their size; 0: all units are alike
    signal: FloatArray  # (layers,), root mean square of the layer's output
    flow: FloatArray  # (layers,), root mean square of the loss's gradient with respect to the layer's output
    time_steps: FloatArray  # (layers,), steps of time that a recurrent layer went through
    time_flow: FloatArray  # (layers, TIME_BINS), rms of the gradient that arrives at those steps, the earliest first
    silent: FloatArray  # (sites, len(SILENCE_LENGTHS)), share of units silent that many samples running
    zeros: FloatArray  # (sites,), share of exact zeros among this batch's activations
    pinned: FloatArray  # (sites,), share of activations within 1 % of an end of a squashing function's range
    slope: FloatArray  # (sites,), mean derivative of a squashing function, relative to its largest

    @classmethod
    def blank(cls, layers: int, sites: int, **known: FloatArray) -> Sample:
        """Return a sample of which only the figures in `known` are known."""
        figures = {name: np.full(shape, np.nan, np.float32) for name, shape in sample_shapes(layers, sites).items()}
        return cls(**{**figures, **known})

    @cached_property
    def update_ratios(self) -> FloatArray:
        """Update norm over weight norm by layer, (layers,); NaN where unknown."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratios = self.update_norms / self.weight_norms
        return np.where(np.isfinite(ratios), ratios, np.float32(np.nan)).astype(np.float32)


def sample_shapes(layers: int, sites: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every figure of a Sample, in the order of its fields."""
    return {
        "weight_norms": (layers,),
        "update_norms": (layers,),
        "spread": (layers,),
        "signal": (layers,),
        "flow": (layers,),
        "time_steps": (layers,),
        "time_flow": (layers, TIME_BINS),
        "silent": (sites, len(SILENCE_LENGTHS)),
        "zeros": (sites,),
        "pinned": (sites,),
        "slope": (sites,),
    }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The health figures of one tick, rounded to float32: the precision they are stored in."""

    tick: int
    step: int
    loss: float  # mean over the micro-batches
    lr: float  # of the first param_group, multiplier included
    grad_norm: float  # L2 over all gradients, before any clipping
    grad_norms: FloatArray  # (layers,)
    anatomy: Anatomy
    sample: Sample | None = None
    origin: str = ""  # of a non-finite value: one of ORIGINS
    origin_layer: str = ""  # the layer in which it began, if it did in one
    era: int = 0  # how often a remedy has changed or set back the model: samples of another era tell of another one
    renewals: int = 0  # how often weights were drawn anew or the structure changed: what was usual is so no more

    @property
    def finite(self) -> bool:
        """Whether loss and gradients are all finite."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(frozen=True, slots=True)
class Cause:
    """A suspected root cause, with what speaks for it."""

    name: str  # in the words of `supervisor.diagnoses.causes`
    weight: float  # 0 to 1: how strongly the evidence points to it
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One pathology seen."""

    pathology: str
    tick: int
    step: int
    where: tuple[str, ...]  # layer names
    severity: float  # 0 to 1
    cause: str  # the suspected root cause: the first of `causes`, where they were ranked
    evidence: Mapping[str, Any] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()  # the likeliest first


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy answers to a finding. The decisions of one rung share `rung` and `tick`."""

    id: str  # unique in its run: "d1", "d2", ...
    remedy: str
    params: Mapping[str, Any]
    finding: Finding
    rung: int  # 0 is the ladder's first
    reason: str  # a sentence
    tick: int
    step: int

    @property
    def intervention(self) -> bool:
        """Whether it changes the training; advice does not."""
        return self.remedy != "advise"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying a decision did."""

    decision: str  # its id
    remedy: str
    status: Literal["applied", "refused", "failed"]
    tick: int
    step: int
    why: str = ""  # of a refusal or a failure
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)  # before, after

    @property
    def intervened(self) -> bool:
        """Whether the training was changed."""
        return intervened(self.remedy, self.status, self.changes)


def intervened(remedy: str, status: str, changes: Mapping[str, Any]) -> bool:
    """Return whether an outcome changed the training: applied, more than advice, and a clip only where it fired."""
    fired = remedy not in CLIPS or not changes.keys().isdisjoint(CLIPPED.values())
    return status == "applied" and remedy != "advise" and fired


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a rung after its probation."""

    decisions: tuple[str, ...]  # ids, all of one rung
    pathology: str
    status: Literal["resolved", "persisted", "worsened", "inconclusive"]
    tick: int
    step: int
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    undone: bool = False


def plain(value: Any) -> Any:  # noqa: ANN401 - any record in, JSON types out
    """Return `value` as JSON types: records become dicts, arrays lists, NaN and Inf strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
