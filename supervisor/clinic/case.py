"""What a case of the clinic is: a training with a known fault, or none, and a score that the supervisor never sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from supervisor.entry import Training

Half = Literal["development", "held-out"]
Family = Literal["mlp", "cnn", "rnn", "transformer", "autoencoder", "residual", "other"]


@dataclass(frozen=True)
class Program:
    """A training that was just built, and how it is scored on held-out data. Not yet run."""

    training: Training  # with `steps`; tracking, policy and run_dir are the clinic's
    score: Callable[[], float]  # of the model as it is now, on held-out data; higher is better
    chance: float  # the score of the best constant predictor


@dataclass(frozen=True)
class Case:
    """A training as a recipe. The same seed builds the same program, bit for bit."""

    name: str  # "mlp/sigmoid-12-adam": family, fault, what tells it from others
    family: Family
    build: Callable[[int], Program]  # seed: program
    expect: frozenset[str] = frozenset()  # acceptable pathologies; none: a healthy control, to be left alone
    causes: frozenset[str] = frozenset()  # acceptable root causes, of `supervisor.diagnoses.causes`
    onset: int = 1  # the first tick at which the fault is there
    twin: Callable[[int], Program] | None = None  # the same task well configured; of every faulty case
    trap: str = ""  # of a control: what makes others cry wolf here
    main: str = ""  # of several acceptable pathologies the one it is filed under; left out: the most specific

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.expect

    @property
    def pathology(self) -> str:
        """The pathology that the case is filed under in tables; "healthy" for a control."""
        return self.main or next((name for name in _SPECIFIC_FIRST if name in self.expect), "healthy")


_SPECIFIC_FIRST: Final = (
    "dead_units",
    "saturation",
    "vanishing_gradients",
    "exploding_gradients",
    "unstable_training",
    "plateau",
    "non_finite",
)
"""Where several names are acceptable, the one that says most: every illness ends in a plateau, or in a NaN."""


def regained(score: float, chance: float, twin: float) -> float:
    """Return the share of the twin's lead over chance that a score reaches; NaN scores reach nothing."""
    lead = twin - chance
    return (score - chance) / lead if lead > 0 and score == score else 0.0  # noqa: PLR0124 - NaN
