"""What is normal in a training, declared: which rules its kind masks or loosens, and why.

Inferred, so that nobody need declare it:
- frozen parameters (`requires_grad=False`, or in no optimizer) belong to no layer that is judged;
- schedulers, warm-up and restarts show in the course of the learning rate, which detectors look back on;
- sparse gradients and layers without a gradient are seen as such; the model's output is told from hidden layers;
- the scale of the loss and of the gradients, the noise of the data, a level that has shifted for good.

To be declared, because the figures of such a training and of a sick one are the same:
- `kind`: what the loss means. In a GAN, in reinforcement learning and in contrastive learning it may rise, swing or
  stand for ever in good health; in fine-tuning it starts near its end, and early layers should hardly move;
- `frozen`: layers that are trained on paper but meant to stand still (a tiny rate of their own, an adapter's base);
- `warmup`: steps in which the training finds its feet, with a rate that no scheduler shows.

A declaration wins over the thresholds of a policy: it can only switch off and loosen. `non_finite` is never masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, get_args

from supervisor.records import Finding

Thresholds = Mapping[str, Any] | None  # of one detector; None: switched off
Kind = Literal["gan", "rl", "contrastive", "finetune"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_STANDING: Final = "a loss that stands is no harm here, and a decay over the depth alone is architecture"

NORMAL: Final[Mapping[str, Mapping[str, tuple[Thresholds, str]]]] = {
    "gan": {
        "unstable_training": (None, "each network's loss rises as the other gets better"),
        "plateau": (None, "where the two are in balance, both losses stand"),
        "vanishing_gradients": (None, _STANDING),
        "exploding_gradients": ({"ratio": 100.0}, "gradients jump whenever one network outwits the other"),
    },
    "rl": {
        "unstable_training": (None, "targets and data move with the policy: the loss is no measure of success"),
        "plateau": (None, "the return may rise while the loss stands"),
        "vanishing_gradients": (None, _STANDING),
        "exploding_gradients": ({"ratio": 100.0}, "a rare reward brings a loss and a gradient far above the usual"),
    },
    "contrastive": {
        "unstable_training": (None, "targets, temperature and negatives move: the loss may rise as the task hardens"),
        "plateau": (None, "it starts at the logarithm of the batch size and may stand there for long"),
        "vanishing_gradients": (None, _STANDING),
    },
    "finetune": {
        "plateau": (None, "it starts near its end, and the rate is small on purpose"),
        "vanishing_gradients": (None, "early layers that hardly move are wanted"),
        "dead_units": ({"fraction": 0.9}, "units for what the new data never shows are silent"),
    },
}
"""By kind and pathology: the thresholds at least as wide as which they are normal (None: any), and why."""

PATIENT: Final = frozenset({"unstable_training", "plateau"})
"""Verdicts on the course of the loss: they wait for the end of the warm-up."""

_NEVER: Final = "non_finite"


@dataclass(frozen=True)
class Context:
    """What its author declares to be normal in a training."""

    kind: str | None = None  # one of KINDS
    frozen: tuple[str, ...] = ()  # names or shell patterns of modules; what lies below one is meant too
    warmup: int = 0  # steps

    @property
    def _normal(self) -> Mapping[str, tuple[Thresholds, str]]:
        return NORMAL.get(self.kind or "", {})

    def loosened(self, detect: Mapping[str, Thresholds]) -> dict[str, Thresholds]:
        """Return the thresholds of a policy, those wider that the kind calls for, or None where it masks the rule."""
        return {**detect, **{name: _wider(detect.get(name, {}), rule) for name, (rule, _) in self._normal.items()}}

    def admit(self, finding: Finding) -> Finding | None:
        """Return the finding without the layers that are meant to stand still; None if nothing of it is left."""
        if finding.pathology == _NEVER:
            return finding
        if finding.pathology in PATIENT and finding.step < self.warmup:
            return None
        moving = tuple(name for name in finding.where if not any(covers(pattern, name) for pattern in self.frozen))
        if moving == finding.where:
            return finding
        return replace(finding, where=moving) if moving else None

    def told(self) -> Iterator[str]:
        """Yield a sentence for each thing that is masked or loosened, for the journal."""
        for name, (rule, reason) in self._normal.items():
            what = "off" if rule is None else f"wider ({', '.join(f'{k} at least {v:g}' for k, v in rule.items())})"
            yield f"context {self.kind}: {name} is {what}: {reason}"
        if self.frozen:
            yield f"context: no finding names the layers declared frozen: {', '.join(self.frozen)}"
        if self.warmup:
            yield f"context: {' and '.join(sorted(PATIENT))} are not judged before step {self.warmup}: warm-up"


def covers(pattern: str, name: str) -> bool:
    """Return whether a name or shell pattern means the module `name`, or one that it lies in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def unmatched(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the patterns that mean none of the modules `names`."""
    known = list(names)
    return [pattern for pattern in patterns if not any(covers(pattern, name) for name in known)]


def _wider(stated: Thresholds, rule: Thresholds) -> Thresholds:
    """Return the wider of two sets of thresholds; the larger number is the wider one."""
    if stated is None or rule is None:
        return None
    return {**stated, **{key: max(value, stated.get(key, value)) for key, value in rule.items()}}
